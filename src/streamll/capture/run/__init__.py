"""Captured calls: the scope of each, the run that orders their events, and the names of their parts."""
