"""Runs of a server, read over HTTP as if they were here: ``streamll.connect``."""
