"""Watching DSPy programs run: the only folder that imports dspy.

The ways in are ``instrument``, ``stream``, ``watch`` and ``streamify.drop_in``. Behind them, follow
one token: ``hooks.places`` puts ``tap.engine`` around the engine DSPy selects; the tap reads the
wire and hands text to an ``LMCall`` (``reply.lm_call``); its parser (``reply.call_fields`` →
``core.parsing``) says which field the text belongs to; the ``Run`` (``run.run``) stamps the event
and puts it into every sink and stream that listens. Who is calling is learnt from DSPy's callbacks
(``hooks.callbacks``). ``typed`` reads fields that are no plain text, ``policy`` adds the attempts
and timeouts of a ``StreamConfig``; ``inside_dspy`` has DSPy's private names.
"""
