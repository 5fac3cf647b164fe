"""Talking to models without a program: ``iModel``, sessions of messages, turns of a conversation.

The public names are in ``streamll`` and, under the paths that notebooks know, in
``streamll.services`` (models), ``streamll.session`` and ``streamll.operations``.
"""
