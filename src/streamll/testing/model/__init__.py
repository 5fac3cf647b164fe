"""The built-in practice model: reads a prompt as a model does and answers in the shape it asks for."""

from __future__ import annotations

from streamll.testing.model.answering import MODEL, practise

__all__ = ["MODEL", "practise"]
