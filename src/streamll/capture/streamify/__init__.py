"""The drop-in for ``dspy.streamify``, and what else ``dspy.streaming`` offers.

``drop_in.streamify`` captures a call and translates its events into DSPy's own classes.
"""
