"""Fields that are no plain text: their values while they are being written.

``field.typed_field`` makes the reader that an LM call feeds; ``reading`` is how a program reads
such values from its stream, ``partial_form`` what they may look like before they are complete.
"""
