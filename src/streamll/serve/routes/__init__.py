"""The routes of the server, and responses for routes of your own."""
