"""To the browser: responses for your own routes, and a server of runs."""
