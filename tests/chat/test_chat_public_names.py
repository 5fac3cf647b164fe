"""The chat wing stands on public names: of DSPy ``dspy`` and ``dspy.lm15``, nothing of capture."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import streamll

SOURCE = Path(streamll.__file__).parent / "chat"


@pytest.mark.parametrize("module", sorted(SOURCE.glob("*.py")), ids=lambda path: path.name)
def test_chat_imports_public_names_only(module):
    tree = ast.parse(module.read_text("utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            assert not name.startswith("streamll.capture"), name
            assert name in {"dspy", "dspy.lm15"} or not name.startswith("dspy"), name
            assert "._" not in name, name
