"""A stream's ``StreamConfig`` at work: attempts, timeouts, breakers, continuing after a cut."""
