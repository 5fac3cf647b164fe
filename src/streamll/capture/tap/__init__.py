"""Hearing an LM's reply while it arrives, and giving DSPy the same reply in the end.

``stand_in.tap`` makes the object that DSPy takes for its engine. A tap tells one
``listener.CallListener`` what it hears; it knows nothing of predictors, fields or sinks.
"""
