"""Where events go. ``BaseSink`` is what to subclass for a destination of one's own."""

from streamll.sinks.base import BaseSink, SinkStatistics

__all__ = ["BaseSink", "SinkStatistics"]
