"""The providers' streaming wires: bytes in, deltas out, and the body a plain request would give."""
