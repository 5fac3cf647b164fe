"""How events move: bounded channels, merging, worker threads. Knows events, not DSPy."""
