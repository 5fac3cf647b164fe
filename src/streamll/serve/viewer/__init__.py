"""The viewer: its static files, a report with them in one file, and a server for this machine alone."""
