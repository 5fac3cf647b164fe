"""One LM call, from deltas to field events.

``lm_call.LMCall`` is the tap's listener; ``parsers.parser_for`` chooses the parser that it feeds, and
``attempt_fields.AttemptFields`` makes events of what the parser releases.
"""
