"""The API reference is complete, and every docstring in it says what its reader needs."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import streamll
from streamll.core import errors
from streamll.core.events import KINDS, Event
from streamll.exports import names_in

PAGES = Path(__file__).parent.parent / "docs" / "reference"
MODULES = (
    "core.errors",
    "streams",
    "typed",
    "guards",
    "sinks",
    "consumer",
    "serve",
    "services",
    "session",
    "session.messages",
    "operations",
    "testing",
)


def public_names() -> set[str]:
    """The full name of everything a user may import, each where the reference has it."""
    own = {*streamll.__all__, *names_in(streamll.ALSO)} - {"streams", "typed"}
    found = {f"streamll.{name}" for name in own}
    known = {id(getattr(streamll, name)) for name in own}
    for module in MODULES:
        room = importlib.import_module(f"streamll.{module}")
        for name in exported(room):
            if id(getattr(room, name)) not in known:
                known.add(id(getattr(room, name)))
                found.add(f"{room.__name__}.{name}")
    return found


def exported(room: Any) -> list[str]:
    """The names that a module has for others, in the three ways in which ours say so."""
    if room is errors:
        kinds = [each for each in vars(room).values() if inspect.isclass(each)]
        return [each.__name__ for each in kinds if issubclass(each, errors.StreamllError)]
    if hasattr(room, "__all__"):
        return list(room.__all__)
    tree = ast.parse(inspect.getsource(room))
    return [
        alias.asname
        for node in tree.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.asname
    ]


NAMES = sorted(public_names())


def object_at(name: str) -> Any:
    module, _, last = name.rpartition(".")
    return getattr(importlib.import_module(module), last)


def test_the_reference_has_every_public_name_once():
    listed = [
        name
        for page in PAGES.glob("*.md")
        for name in re.findall(r"^::: (\S+)$", page.read_text("utf-8"), re.MULTILINE)
    ]
    assert sorted(listed) == NAMES


def test_the_reference_shows_the_tree_of_errors():
    page = (PAGES / "errors.md").read_text("utf-8")
    tree = [line.strip() for line in errors.__doc__.splitlines() if "── " in line]
    assert tree == [line.strip() for line in page.splitlines() if "── " in line]


# --- docstrings ---------------------------------------------------------------------------------

BETWEEN_OURSELVES = {"step", "astep", "opened", "later", "follow_program"}
"""Methods that the package's own modules call; the reference leaves them out (``zensical.toml``)."""

GIVEN = {
    "AsyncRemoteStream", "AsyncStream", "Calling", "CallStatus", "Chunk", "Connection", "Execution", "InvokeStream", "MergedStream", "ModelReply",
    "Partial", "RecordedRequest", "Registry", "RemoteStream", "Replay", "Role", "Stream", "StreamReset", "StreamResponse", "TurnStream",
}  # fmt: skip
"""Classes whose objects a user gets, and does not make."""


def test_the_site_leaves_out_what_is_between_ourselves():
    (pattern,) = re.findall(
        r'"!\^\(([\w|]+)\)\$"', (PAGES.parents[1] / "zensical.toml").read_text()
    )
    assert set(pattern.split("|")) >= BETWEEN_OURSELVES


class Described(NamedTuple):
    """A public class or function, with the texts that describe it."""

    name: str
    value: Any
    own: str
    texts: str


def described() -> Iterator[Described]:
    seen: set[int] = set()
    for name in NAMES:
        value = object_at(name)
        kinds = value.__mro__ if inspect.isclass(value) else ()
        own = [kind for kind in kinds if kind.__module__.startswith("streamll")]
        about = " ".join(inspect.getdoc(each) or "" for each in own or [value])
        yield Described(name, value, inspect.getdoc(value) or "", about)
        for kind in own:
            for key, member in vars(kind).items():
                function = getattr(member, "__func__", getattr(member, "fget", member))
                if not inspect.isfunction(function) or key[0] == "_" or key in BETWEEN_OURSELVES:
                    continue
                if id(function) not in seen:
                    seen.add(id(function))
                    text = inspect.getdoc(getattr(kind, key)) or ""
                    yield Described(f"{name}.{key}", function, text, f"{text} {about}")


@pytest.fixture(scope="module")
def each():
    return list(described())


def test_everything_has_a_docstring(each):
    assert not [it.name for it in each if not it.own]


def test_every_kind_of_event_has_a_docstring():
    assert not [name for name, kind in KINDS.items() if not vars(kind).get("__doc__")]


def test_docstrings_name_every_parameter(each):
    assert not [
        f"{name} of {it.name}"
        for it in each
        for name in parameters(it.value)
        if not re.search(rf"\b{name}\b", it.texts)
    ]


def parameters(value: Any) -> list[str]:
    """The names that a caller may give; events are made by runs, and described in ``docs/events.md``."""
    if inspect.isclass(value) and (value.__name__ in GIVEN or issubclass(value, Event)):
        return []
    try:
        found = inspect.signature(value).parameters
    except (TypeError, ValueError):  # an error, which takes a message; a type alias
        return []
    return [name for name in found if name not in ("self", "cls", "args", "options")]


TIMES = re.compile(r"timeout|delay|interval|seconds|^ttl$|^pace$|heartbeat|duration")


def test_docstrings_say_in_which_unit_times_are(each):
    with_times = [it for it in each if any(map(TIMES.search, parameters(it.value)))]
    assert with_times
    assert not [it.name for it in with_times if "second" not in it.texts]


def test_docstrings_name_the_errors_that_are_raised(each):
    raised = {it: raised_by(it.value) for it in each}
    assert any(raised.values())
    assert not [
        f"{e} of {it.name}" for it, errs in raised.items() for e in errs if e not in it.texts
    ]


def raised_by(value: Any) -> set[str]:
    """The errors that its own lines raise: those of a function, or of the ``__init__`` of a class."""
    try:
        (definition,) = ast.parse(textwrap.dedent(inspect.getsource(value))).body
    except (OSError, TypeError):  # made by a decorator
        return set()
    if isinstance(definition, ast.ClassDef):
        made = [each for each in definition.body if getattr(each, "name", "") == "__init__"]
        definition = made[0] if made else ast.Pass()
    calls = [
        each.exc.func
        for each in ast.walk(definition)
        if isinstance(each, ast.Raise) and isinstance(each.exc, ast.Call)
    ]
    return {call.id for call in calls if isinstance(call, ast.Name) and call.id[0].isupper()}
