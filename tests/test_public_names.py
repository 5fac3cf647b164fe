"""The names of ``streamll`` and of the rooms next to it: where they are, and that they are there."""

from __future__ import annotations

import ast
import builtins
import importlib
import inspect
import re
from pathlib import Path

import pytest

import streamll
import streamll.serve
import streamll.sinks
import streamll.streams
import streamll.typed
from streamll.core import errors

STUB = Path(streamll.__file__).with_suffix(".pyi")
NAMES = [
    (module, name)
    for table in (streamll.PUBLIC, streamll.ALSO)
    for module, names in table.items()
    for name in names.split()
]


@pytest.mark.parametrize("package", [streamll.serve, streamll.sinks])
def test_the_stub_of_a_package_has_the_names_of_its_table(package):
    stub = Path(package.__file__).with_suffix(".pyi")
    assert stub_names(stub) == sorted(
        (module, name) for module, names in package.PUBLIC.items() for name in names.split()
    )


def stub_names(stub):
    return sorted(
        (node.module.removeprefix("streamll").removeprefix("."), alias.name)
        for node in ast.parse(stub.read_text("utf-8")).body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.asname == alias.name
    )


def test_the_stub_has_the_names_of_the_table_and_no_others():
    assert stub_names(STUB) == sorted(NAMES)
    assert len({name for _, name in NAMES}) == len(NAMES)


@pytest.mark.parametrize(("module", "name"), NAMES, ids=[name for _, name in NAMES])
def test_every_name_is_there(module, name):
    home = importlib.import_module(f"streamll.{module}".rstrip("."))
    value = getattr(home, name)
    assert getattr(streamll, name) is value
    if name in streamll.__all__:
        assert name in dir(streamll)


def test_names_that_moved_are_still_found_at_run_time():
    for module, names in streamll.MOVED.items():
        home = importlib.import_module(f"streamll.{module}")
        for name in names.split():
            assert getattr(streamll, name) is getattr(home, name)
            assert name not in streamll.__all__


def test_there_are_about_fifty_names():
    assert len(streamll.__all__) <= 50
    with pytest.raises(AttributeError, match="module 'streamll' has no attribute 'nothing'"):
        _ = streamll.nothing


RUST = ["DSpyStream", "DSPyStream", "SafeDSpyStream", "StreamConfig", "StreamEvent",
        "ConcurrentStreamProcessor", "aggregate_streams", "collect_stream", "gather_streams"]  # fmt: skip
DSPY = ["StreamListener", "StreamResponse", "StatusMessage", "StatusMessageProvider",
        "apply_sync_streaming", "streamify", "streaming_response"]  # fmt: skip


@pytest.mark.parametrize("name", RUST + DSPY)
def test_the_rust_examples_and_dspys_names_are_importable_from_streamll(name):
    assert getattr(streamll, name)


@pytest.mark.parametrize(
    "package", [streamll.serve, streamll.sinks, streamll.streams, streamll.typed]
)
def test_the_other_public_rooms(package):
    for name in package.__all__:
        assert getattr(package, name).__name__ == name


def test_every_error_is_in_the_tree_listed_and_drawn():
    """No module defines an error a caller can catch but ``core.errors``, whose docstring shows all."""
    own = {
        name
        for name, value in vars(errors).items()
        if inspect.isclass(value) and issubclass(value, BaseException)
    }
    for name in own:
        assert f"── {name}" in errors.__doc__, name
    known = own | {name for name in dir(builtins) if name.endswith(("Error", "Exception"))}
    source = Path(streamll.__file__).parent
    # To parse all of them takes seconds, and few have a class with a base that may be an error.
    derived = re.compile(rf"class \w+\s*\([^:]*\b({'|'.join(sorted(known))})\b")
    elsewhere = [
        f"{module.relative_to(source)}: {node.name}"
        for module in source.rglob("*.py")
        if module != source / "core" / "errors.py"
        if derived.search(text := module.read_text("utf-8"))
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.ClassDef)
        and any(
            isinstance(base, ast.Name) and base.id in known - {"Exception"} for base in node.bases
        )
    ]
    assert elsewhere == []
