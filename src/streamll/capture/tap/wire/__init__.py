"""The providers' streaming wires: bytes in, deltas out, and the body a plain request would give.

``sse`` cuts bytes into frames, one assembler per wire reads them (``reply`` puts the two together),
``exchange`` puts lm15's own request builder and response parser around them. Nothing here does I/O.
"""
