"""Operators over streams of events: merge, collect, pace, split, show progress. Knows no DSPy."""
