"""One LM call, from deltas to field events."""
