"""A stream's ``StreamConfig`` at work: attempts, timeouts, breakers, continuing after a cut.

``attempts.supervised`` stands between DSPy and the tap, ``call.SupervisedCall`` between the tap and
the call's listener. Without a ``StreamConfig`` neither is there.
"""
