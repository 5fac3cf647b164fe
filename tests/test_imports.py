"""Who may import whom, as one table, and what `import streamll` costs."""

from __future__ import annotations

import ast
import functools
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "streamll"


class Rule(NamedTuple):
    """What the modules of one part may import besides the standard library.

    Names with a dot in front are parts of streamll. ``always`` may stand anywhere, ``within`` only
    inside the function that needs it, or under ``TYPE_CHECKING``.
    """

    always: AbstractSet[str] = frozenset()
    within: AbstractSet[str] = frozenset()


RULES = {
    # the public names are resolved when they are used
    "__init__": Rule({".exports"}),
    "exports": Rule(within={".core"}),
    "typed": Rule({".exports"}, within={".capture", ".core"}),
    # plain synchronous Python: data in, events out
    "core": Rule({".core", "msgspec"}),
    # what may not leave: texts in, what may go out
    "guards": Rule({".core", ".flow", ".guards", "msgspec", "typing_extensions"}),
    "configuration": Rule({".core", "msgspec"}, within={".guards"}),
    "context": Rule({".configuration", ".core", "msgspec"}),
    # questions of a run; it meets capture in `context.current_scope` alone
    "asking": Rule(
        {".asking", ".configuration", ".context", ".core", ".flow", "msgspec"},
        within={
            ".brokers",
            "dspy",
            "jsonschema",
            "jsonschema_specifications",
            "pydantic",
            "referencing",
        },
    ),
    # replacing functions of other libraries, and putting them back
    "patching": Rule(),
    # waiting: threads and event loops
    "flow": Rule({".core", ".flow", "anyio", "msgspec"}),
    "streams": Rule({".core", ".flow", ".streams", "anyio", "msgspec"}, within={"regex", "rich"}),
    # how a run looks in a terminal, as data; rich only draws
    "terminal": Rule({".core", ".terminal"}, within={"rich"}),
    "sinks": Rule(
        {".core", ".exports", ".flow", ".sinks", ".streams", ".terminal", "msgspec"},
        within={"opentelemetry", "rich"},
    ),
    # a broker's client and OpenTelemetry are loaded by whoever uses them
    "brokers": Rule(
        {".brokers", ".core", ".flow", ".sinks", "msgspec"},
        within={"aio_pika", "aiormq", "opentelemetry", "pamqp", "redis"},
    ),
    "consumer": Rule({".asking", ".brokers", ".consumer", ".core", ".flow", ".sinks", "msgspec"}),
    # the only part that imports dspy and what DSPy itself stands on
    "capture": Rule(
        {
            ".asking",
            ".capture",
            ".configuration",
            ".context",
            ".core",
            ".flow",
            ".guards",
            ".patching",
            ".streams",
        }
        | {"anyio", "dspy", "json_repair", "msgspec", "pydantic", "typing_extensions"},
        within={".sinks", "httpcore", "httpx", "litellm"},
    ),
    # a server's runs, read over HTTP by a client that DSPy brings anyway
    "remote": Rule(
        {".core", ".flow", ".remote", ".streams", "msgspec"}, within={"httpx", "httpx2"}
    ),
    "watching": Rule(
        {".capture", ".configuration", ".exports", ".guards"}, within={".serve", ".sinks"}
    ),
    # the seeds' spellings of what the rest does
    "compat": Rule({".capture", ".compat", ".core", ".flow", ".streams", "dspy"}),
    # a server of its own; only what makes a `dspy.LM` for it, or records one, knows DSPy
    "testing": Rule(
        {".core", ".flow", ".patching", ".sinks", ".testing", "h11", "msgspec"},
        within={".", ".capture", ".configuration", "dspy", "httpx"},
    ),
    # models, sessions and turns, on public names of streamll and DSPy alone
    "chat": Rule(
        {".", ".chat", ".configuration", ".context", ".core", ".flow", ".guards", ".terminal"}
        | {"dspy", "msgspec"}
    ),
    # the paths by which notebooks know what is in chat
    "services": Rule({".chat", ".core", ".flow"}),
    "session": Rule({".chat", ".core"}),
    "operations": Rule({".chat"}),
    # a web server over the log; programs are reached by `streamll.stream` alone
    "serve": Rule(
        {
            ".",
            ".asking",
            ".brokers",
            ".configuration",
            ".consumer",
            ".core",
            ".exports",
            ".flow",
            ".guards",
            ".streams",
            ".serve",
            ".sinks",
            "msgspec",
            "starlette",
        },
        within={"cryptography", "pydantic", "uvicorn"},
    ),
    # the shell around everything
    "cli": Rule(
        {".cli", ".core", ".terminal", "typer"},
        within={
            ".",
            ".flow",
            ".streams",
            ".capture",
            ".patching",
            ".brokers",
            ".consumer",
            ".chat",
            ".serve",
            ".sinks",
            ".testing",
            "dspy",
            "msgspec",
            "pydantic",
            ".exports",
            "uvicorn",
        },
    ),
    "__main__": Rule({".cli"}),
}


# what stands on what inside a part: each room on the ones it names, all of them above it
CAPTURE_ROOMS: dict[str, set[str]] = {
    "deltas": set(),
    "inside_dspy": set(),
    "run": {"inside_dspy"},
    "tap": {"deltas", "inside_dspy", "run"},
    "typed": {"inside_dspy", "run"},
    "reply": {"deltas", "inside_dspy", "run", "typed"},
    "policy": {"deltas", "inside_dspy", "tap"},
    "hooks": {"deltas", "policy", "inside_dspy", "reply", "run", "tap"},
    "instrument": {"hooks", "run"},
    "running": {"policy", "run"},
    "stream": {"hooks", "inside_dspy", "policy", "running", "run", "typed"},
    "streamify": {"hooks", "inside_dspy", "reply", "run"},
}

SERVE_ROOMS: dict[str, set[str]] = {
    "formats": set(),
    "inputs": set(),
    "permits": set(),
    "page": set(),
    "report": {"page"},
    "programs": {"inputs"},
    "log": {"formats", "permits"},
    "web": {"log", "permits"},
    "runner": {"log", "programs", "web"},
    "routes": {
        "formats",
        "inputs",
        "log",
        "page",
        "permits",
        "programs",
        "report",
        "runner",
        "web",
    },
    "app": {"log", "programs", "routes", "runner", "web"},
    "viewer": {"app", "web"},
}


class Import(NamedTuple):
    line: int
    module: str
    at_top: bool


def statements_in(node: ast.AST) -> Iterator[ast.AST]:
    """The statements and branches right below a node. No expression is looked at: none has an import."""
    for field in ("body", "handlers", "orelse", "finalbody", "cases"):
        below = getattr(node, field, ())
        if isinstance(below, list):  # the body of a lambda is an expression
            yield from below


def imports(tree: ast.Module, package: str) -> Iterator[Import]:
    """Every import of a module, relative ones resolved; ``at_top`` if importing it runs them."""

    def visit(node: ast.AST, *, at_top: bool) -> Iterator[Import]:
        for child in statements_in(node):
            if isinstance(child, ast.Import):
                yield from (Import(child.lineno, alias.name, at_top) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                base = package.split(".")[: -(child.level - 1) or None] if child.level else []
                name = ".".join([*base, *filter(None, [child.module])])
                ours = name.partition(".")[0] == "streamll"  # what is imported may be a module
                names = [f"{name}.{a.name}" for a in child.names] if ours else [name]
                yield from (Import(child.lineno, each, at_top) for each in names)
            elif isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
                yield from visit(ast.Module(child.body, []), at_top=False)
                yield from visit(ast.Module(child.orelse, []), at_top=at_top)
            elif isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
                yield from visit(child, at_top=False)
            else:
                yield from visit(child, at_top=at_top)

    return visit(tree, at_top=True)


@functools.cache
def parsed(module: Path) -> ast.Module:
    return ast.parse(module.read_text("utf-8"))


def dotted(module: Path) -> str:
    """``streamll.core.events`` for its file; a package's for its ``__init__.py``."""
    parts = module.relative_to(SOURCE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@functools.cache
def imported_modules(module: Path) -> set[str]:
    """Every one of our modules that this one imports: at its top, in functions, for types."""
    known, found = {dotted(each) for each in MODULES}, set[str]()
    below: list[ast.AST] = [parsed(module)]
    for node in below:
        below.extend(statements_in(node))
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= names & known or {node.module}  # a package's module, or what the package has
    return (found & known) - {dotted(module)}


def cycle_in(graph: Mapping[str, AbstractSet[str]]) -> list[str]:
    """The names of one circle, first and last alike; empty where there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def part_of(module: Path) -> str:
    return module.relative_to(SOURCE).parts[0].removesuffix(".py")


def rule_name(module: str) -> str:
    """The name by which rules speak of a module: a library, or ``.part`` of streamll."""
    library, _, rest = module.partition(".")
    if library != "streamll":
        return library
    part = rest.partition(".")[0]
    return f".{part}" if part in RULES else "."  # "." are the public names


def violations(module: Path) -> Iterator[str]:
    rule = RULES[part_of(module)]
    package = ".".join(["streamll", *module.relative_to(SOURCE).parts[:-1]])
    for line, imported, at_top in imports(parsed(module), package):
        name = rule_name(imported)
        if name in rule.always or name in sys.stdlib_module_names:
            continue
        place = f"{module.relative_to(SOURCE)}:{line} imports {imported}"
        if name not in rule.within:
            yield place
        elif at_top:
            yield f"{place} when it is imported itself, not only in the function that needs it"


MODULES = sorted(SOURCE.rglob("*.py"))


def test_no_two_test_files_have_one_name():
    """They are modules without packages: pytest could not collect both in one run."""
    names = [path.name for path in Path(__file__).parent.rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))


def test_every_part_has_a_rule():
    assert {part_of(module) for module in MODULES} <= RULES.keys()


def test_modules_import_only_what_their_part_may():
    found = {str(module.relative_to(SOURCE)): list(violations(module)) for module in MODULES}
    assert {module: wrong for module, wrong in found.items() if wrong} == {}


def test_no_module_imports_itself_in_a_circle():
    """Imports inside functions and under TYPE_CHECKING count: they, too, are needed to read it."""
    assert cycle_in({dotted(m): imported_modules(m) for m in MODULES}) == []


def test_no_part_imports_itself_in_a_circle():
    graph: dict[str, set[str]] = {part_of(module): set() for module in MODULES}
    for module in MODULES:
        parts = {name.split(".")[1] for name in imported_modules(module) if "." in name}
        graph[part_of(module)] |= parts - {part_of(module)}
    assert cycle_in(graph) == []


def test_a_circle_is_found():
    assert cycle_in({"a": {"b"}, "b": {"c"}, "c": set()}) == []
    assert set(cycle_in({"a": {"b"}, "b": {"c"}, "c": {"a"}})) == {"a", "b", "c"}


@pytest.mark.parametrize(
    ("part", "rooms"),
    [("capture", CAPTURE_ROOMS), ("serve", SERVE_ROOMS)],
    ids=["capture", "serve"],
)
def test_the_rooms_of_a_part_stand_on_those_above_them(part, rooms):
    for place, (room, below) in enumerate(rooms.items()):
        assert below <= set(list(rooms)[:place]), room

    found: dict[str, set[str]] = {room: set() for room in rooms}
    for module in (SOURCE / part).rglob("*.py"):
        parts = module.relative_to(SOURCE).parts
        room = parts[1].removesuffix(".py")
        for _, imported, _ in imports(parsed(module), ".".join(["streamll", *parts[:-1]])):
            if imported.startswith(f"streamll.{part}."):
                found[room].add(imported.split(".")[2])
    assert {room: below - {room} for room, below in found.items()} == rooms


def test_the_import_test_sees_what_it_forbids():
    tree = ast.parse(
        "import a\n"
        "from . import b\n"
        "from ..core.events import c\n"
        "from .. import context\n"
        "def f():\n"
        "    import d.e\n"
        "if TYPE_CHECKING:\n"
        "    import g\n"
        "class C:\n"
        "    import h\n"
    )
    assert [(found.module, found.at_top) for found in imports(tree, "streamll.flow")] == [
        ("a", True),
        ("streamll.flow.b", True),
        ("streamll.core.events.c", True),
        ("streamll.context", True),
        ("d.e", False),
        ("g", False),
        ("h", True),
    ]


HEAVY = {"dspy", "litellm", "rich", "typer", "redis", "aio_pika", "h11", "anyio"}


def loaded_by(code: str) -> set[str]:
    """Which modules ``code`` loads in a fresh interpreter."""
    script = (
        f"import sys\nbefore = set(sys.modules)\n{code}\n"
        "import json; print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return set(json.loads(answer.stdout.splitlines()[-1]))


def test_importing_streamll_loads_next_to_nothing():
    """Of its own two modules, and of Python's what those need: no library, a few milliseconds."""
    loaded = loaded_by("import streamll; dir(streamll)")
    assert {name for name in loaded if name.startswith("streamll")} == {
        "streamll",
        "streamll.exports",
    }
    assert {name.partition(".")[0] for name in loaded} <= {"streamll", *sys.stdlib_module_names}
    assert len(loaded) < 60


def test_a_process_that_only_reads_events_never_loads_dspy():
    loaded = loaded_by(
        "import streamll\n"
        "streamll.set_context(request_id='r')\n"
        "streamll.clear_context()\n"
        "from streamll.core.events import KINDS, StreamllEvent, TokenEvent\n"
        "from streamll.core.wire import decode, encode\n"
        "from streamll.sinks.base import BaseSink\n"
        "from streamll import EventConsumer\n"
        "EventConsumer('redis://localhost'), EventConsumer('sqlite:///nowhere.db')\n"
        "EventConsumer('amqp://localhost').on('token', print)\n"
        "streamll.connect('http://localhost/runs/r')\n"
        "event = decode(encode(TokenEvent(field='answer', token='x')))\n"
        "assert event.token == 'x'\n"
    )
    assert loaded & HEAVY <= {"anyio", "redis", "aio_pika"}
