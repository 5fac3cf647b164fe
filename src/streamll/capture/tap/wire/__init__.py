"""The providers' streaming wires: bytes in, deltas out, and the body a plain request would give.

``sse`` cuts bytes into frames, one assembler per wire reads them, ``exchange`` puts both under
lm15's own request builder and response parser. Nothing here reads a socket; ``exchange`` is the
only module of this folder that knows dspy.
"""
