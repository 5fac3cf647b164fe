"""Captured calls: the scope of each, the run that orders their events, and the names of their parts.

``options`` holds what was declared, ``enter.captured`` is where a captured call begins and ends, and
``run.Run.publish`` is where every event is made.
"""
