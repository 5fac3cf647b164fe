"""``streamll run module:Program``: find a program, give it its inputs, show it."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

from streamll.cli.command import BaseURL, Include, Problem, ViewChoice, ViewOption, existing
from streamll.cli.inputs import named_texts, typed_inputs
from streamll.cli.models import language_model
from streamll.cli.showing import Showing, own_output

if TYPE_CHECKING:
    from streamll.serve.programs import Served


def run(
    program: Annotated[
        str,
        Argument(
            metavar="MODULE:PROGRAM",
            help="A dspy.Module (class, instance, or a function that makes one) in a module or "
            "a .py file, e.g. app.pipelines:QA or qa.py:QA.",
        ),
    ],
    question: Annotated[
        str | None, Argument(help="The program's first input.", show_default=False)
    ] = None,
    field: Annotated[
        list[str] | None,
        Option(metavar="NAME", help="Output field to stream; repeatable. Default: all."),
    ] = None,
    inputs: Annotated[
        list[str] | None,
        Option(
            "--input",
            metavar="KEY=VALUE",
            help="Another input, as text or JSON; of an image, a sound or a file its path. "
            "Repeatable. A terminal asks for what is missing.",
        ),
    ] = None,
    model: Annotated[
        str | None,
        Option(
            metavar="NAME",
            help="The language model, e.g. openai/gpt-4o-mini; auto takes the provider whose key "
            "is in the environment, practice a practice model on this machine. Default: what the "
            "program's module has configured.",
        ),
    ] = None,
    base_url: BaseURL = None,
    view: ViewOption = ViewChoice.auto,
    as_json: Annotated[
        bool,
        Option("--json", help="Print the events, one JSON object per line, and nothing else."),
    ] = False,
    web: Annotated[
        bool, Option("--web", help="Show the run in the viewer instead, until Ctrl-C.")
    ] = False,
    record: Annotated[
        Path | None,
        Option(
            metavar="FILE",
            dir_okay=False,
            help="Keep the events and the provider's replies in this file, for replay and report.",
        ),
    ] = None,
    log: Annotated[
        str | None,
        Option(metavar="URL", help="Write the run to this log as well: sqlite:///, redis://, …"),
    ] = None,
    include: Include = None,
) -> None:
    """Run a program of yours and watch it.

    What it asks (streamll.ask) is asked at the terminal.
    """
    if as_json and web:
        raise Problem("--json and --web exclude each other; choose one")
    if view is not ViewChoice.auto and (as_json or web):
        other = "--json" if as_json else "--web"
        raise Problem(f"--view is for the terminal, where {other} shows nothing; leave out one")
    texts = named_texts(inputs or ())
    with ExitStack() as stack:
        configure_include(include, stack)
        lines = stack.enter_context(own_output()) if as_json else None  # a module may print, too
        found = find_program(program)
        if question is not None:
            name = first_input(found)
            if name in texts:
                raise Problem(f"{name!r} is given twice: as the question and by --input {name}=…")
            texts = {name: question, **texts}
        values = typed_inputs(program, found, texts)
        stack.enter_context(model_for(found, model, base_url))
        showing = Showing(view.value, lines=lines, web=web, record=record, log=log)
        showing.run(found, values, field or ["*"])


def configure_include(names: list[str] | None, stack: ExitStack) -> None:
    """What ``--include`` says holds until ``stack`` is left; ``ConfigurationError`` for other names."""
    if names:
        import streamll

        stack.enter_context(streamll.configure(include=names))


def find_program(target: str) -> Any:
    """The program that ``module:Program`` names, ready to be called with inputs."""
    return find_served(target).program


def find_served(target: str) -> Served:
    """The program that ``module:Program`` names, and how it is served; a ``Served`` as it is."""
    from streamll.serve.programs import Served

    found = find(target, "the program is named module:Program, such as app.qa:QA")
    if isinstance(found, Served):
        return found
    name = target.partition(":")[2].rpartition(".")[2]  # over HTTP
    return Served(name=name, program=instantiate(found, target))


def find_function(target: str) -> Any:
    """The function that ``module:function`` names."""
    found = find(target, "a function is named module:function, such as app.qa:inputs")
    if not callable(found) or inspect.isclass(found):
        raise Problem(f"{target} is {type(found).__name__}, not a function")
    return found


def find_guards(targets: Iterable[str]) -> list[Any]:
    """The guards that each ``module:name`` names: one, or a list of them."""
    found: list[Any] = []
    for target in targets:
        named = find(target, "guards are named module:name, such as app.rules:guards")
        found += named if isinstance(named, list | tuple) else [named]
    return found


def find(target: str, how: str) -> Any:
    """What ``module:name`` names; ``how`` it is written otherwise is in the error."""
    place, colon, name = target.partition(":")
    if not (colon and place and name):
        raise Problem(f"{how}, not {target!r}")
    found: Any = load(place)
    for part in name.split("."):
        if not hasattr(found, part):
            raise Problem(f"{place} has no {name!r}{_instead(found)}")
        found = getattr(found, part)
    return found


def load(place: str) -> ModuleType:
    """Import a module by its name or its file, as ``python -m`` would from this directory."""
    is_file = place.endswith(".py")
    directory = str(Path(place).resolve().parent if is_file else Path.cwd())
    if directory not in sys.path:
        sys.path.insert(0, directory)
    if is_file:
        return _load_file(Path(place))
    try:
        return importlib.import_module(place)
    except ModuleNotFoundError as error:
        if error.name and (place == error.name or place.startswith(f"{error.name}.")):
            raise Problem(f"there is no module {error.name!r} here ({Path.cwd()})") from None
        raise


def _load_file(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, existing(path))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def _instead(module: Any) -> str:
    import dspy

    own = getattr(module, "__name__", "")
    names = [
        name
        for name, value in vars(module).items()
        if isinstance(value, dspy.Module)
        or (inspect.isclass(value) and value.__module__ == own and issubclass(value, dspy.Module))
    ]
    return f"; its programs are: {', '.join(names)}" if names else ""


def instantiate(found: Any, target: str) -> Any:
    """A program from a ``dspy.Module``, a class or a factory of one, or a plain function."""
    import dspy

    from streamll.serve.inputs.declared import parameters_of

    if isinstance(found, dspy.Module):
        return found
    if not callable(found):
        raise Problem(f"{target} is {type(found).__name__}, not a dspy.Module or a function")
    needed = parameters_of(found.__init__ if inspect.isclass(found) else found)
    if needed and not inspect.isclass(found):
        return found  # a function that takes inputs is a program itself
    missing = [parameter.name for parameter in needed if parameter.default is parameter.empty]
    if missing:
        raise Problem(
            f"{target} cannot be made without {', '.join(missing)}; name an instance of it, or a "
            "function without parameters that returns one"
        )
    made = found()
    if not isinstance(made, dspy.Module):
        raise Problem(f"{target} makes {type(made).__name__}, not a dspy.Module")
    return made


def first_input(program: Any) -> str:
    from streamll.serve.inputs.declared import inputs_of

    for field in inputs_of(program):
        return field.name
    raise Problem("cannot tell the name of the program's first input; use --input key=value")


@contextmanager
def model_for(program: Any, name: str | None, base_url: str | None) -> Iterator[None]:
    """With the model of this name, else with the one that the program has configured."""
    import dspy

    if name is not None:
        with language_model(name, base_url) as lm, dspy.context(lm=lm):
            yield
        return
    if base_url is not None:
        raise Problem("--base-url needs --model as well, e.g. --model openai/the-model")
    predictors: list[Any] = getattr(program, "predictors", list)()
    if dspy.settings.lm is None and any(predictor.lm is None for predictor in predictors):
        raise Problem(
            "no language model is configured: name one with --model, e.g. --model "
            "openai/gpt-4o-mini, --model auto, or --model practice"
        )
    yield
