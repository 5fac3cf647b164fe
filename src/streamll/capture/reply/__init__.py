"""One LM call between tap and run: the model's text told apart into the fields of its signature.

``lm_call.LMCall`` is what the tap talks to; ``parsers.parser_for`` chooses the parser it feeds.
"""
