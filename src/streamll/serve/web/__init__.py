"""HTTP and WebSocket: who may ask, within what limits, and how a response is sent."""
