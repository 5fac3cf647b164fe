"""The hooks in DSPy: what capture replaces there, and the callbacks by which it learns who calls.

``patch.install`` puts them on. They stand on every other room, and nothing but the ways in
(``instrument``, ``stream``, ``streamify``, ``watch``) stands on them.
"""
