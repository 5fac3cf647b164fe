"""Fields that are not plain text: their values while they are being written.

``field.typed_field`` makes the reader that an LM call feeds. ``partials`` has the methods by which
a program reads such values from its stream, ``partial_form`` their type before they are complete.
"""
