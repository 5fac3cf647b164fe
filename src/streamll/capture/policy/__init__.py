"""A stream's ``StreamConfig`` at work: attempts, timeouts, breakers, going on after a cut.

``attempts.governed`` stands between DSPy and the tap; ``call.SupervisedCall`` between the tap and
its listener. Without a ``StreamConfig`` nothing of this is in the way.
"""
