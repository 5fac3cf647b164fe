"""Watching DSPy programs run: the only folder that imports dspy.

Follow one token: ``patch`` puts ``engine_tap`` around the engine DSPy selects; the tap reads the
wire and hands text to an ``LMCall`` (``lm_call``); its parser (``parsers`` → ``core.parsing``) says
which field the text belongs to; the ``Run`` (``run``) stamps the event and puts it into every
sink and stream that listens. Who is calling is learnt from DSPy's callbacks (``callbacks``).
"""
