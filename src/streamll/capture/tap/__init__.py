"""The tap: reads an LM's reply while it arrives, and gives DSPy the same reply in the end.

``engine.tap`` makes the object that DSPy takes for its engine. A tap reports the deltas it reads to
one ``listener.CallListener``; it knows nothing of predictors, fields or sinks.
"""
