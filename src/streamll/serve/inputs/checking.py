"""Values from outside as a program's inputs: checked and converted by their annotations.

Every problem is found before anything is refused. Nothing is read from a file or fetched for a
value: an image is an address or data. How annotations are read is pydantic's business, in its lax
mode: what JSON has no type for comes as text (dates, enums, decimals).
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from msgspec import UNSET

from streamll.core.errors import InvalidInputs
from streamll.core.problems import Problem, pointer
from streamll.serve.inputs.annotations import dspy_type
from streamll.serve.inputs.declared import Input
from streamll.serve.inputs.media import media_without_reader, opens_files, with_media

if TYPE_CHECKING:
    from pydantic import TypeAdapter


def convert(
    name: str, inputs: tuple[Input, ...], given: Mapping[str, Any], place: str = "inputs"
) -> dict[str, Any]:
    """The values that program ``name`` is called with.

    Of what is not given and has no default, an input that may be ``None`` is ``None``, and a
    ``dspy.History`` is empty. Of a program that declares no
    inputs nothing is known, and all is passed on.

    Raises:
        InvalidInputs: inputs are unknown, missing or of another type.
    """
    if not inputs:
        return dict(given)
    values, problems = convert_given(name, inputs, given, place)
    problems += missing(name, inputs, given, place)
    if problems:
        raise InvalidInputs(problems)
    return {**left_out(inputs, values), **values}


def convert_given(
    name: str, inputs: tuple[Input, ...], given: Mapping[str, Any], place: str = "inputs"
) -> tuple[dict[str, Any], list[Problem]]:
    """The values that are given, and what is wrong with them."""
    declared = {each.name: each for each in inputs}
    values: dict[str, Any] = {}
    problems = []
    for key, value in given.items():
        if key not in declared:
            known = ", ".join(sorted(declared))
            message = f"{name} has no input {key!r}; it has {known}"
            problems.append(Problem(pointer(place, [key]), message))
            continue
        try:
            values[key] = convert_one(declared[key], value, pointer(place, [key]))
        except InvalidInputs as error:
            problems += error.problems
    return values, problems


def missing(
    name: str, inputs: tuple[Input, ...], given: Mapping[str, Any], place: str = "inputs"
) -> list[Problem]:
    """A problem for each required input that is not given."""
    return [
        Problem(pointer(place, [each.name]), f"{name} needs the input {each.name!r} ({each.type})")
        for each in inputs
        if each.required and each.name not in given
    ]


def left_out(inputs: tuple[Input, ...], values: Mapping[str, Any]) -> dict[str, Any]:
    """What inputs are that have no value and no default, but may be left out."""
    history = dspy_type("History")
    found: dict[str, Any] = {}
    for each in inputs:
        if each.name not in values and each.none_if_left_out:
            found[each.name] = None
        elif each.name not in values and each.is_history and each.default is UNSET:
            found[each.name] = None if history is None else history(messages=[])
    return found


def convert_one(declared: Input, value: Any, place: str) -> Any:
    """The value of one input; ``InvalidInputs`` if it is of another type."""
    from pydantic import ValidationError

    inside = None
    try:
        adapter = adapter_of(declared)
        if not opens_files() or (inside := media_without_reader(adapter.core_schema)) is None:
            return adapter.validate_python(value)
    except ValidationError as error:
        raise InvalidInputs(
            Problem(pointer(place, each["loc"]), each["msg"])
            for each in error.errors(include_url=False, include_context=False, include_input=False)
        ) from None
    except Exception as error:
        what = f"cannot be checked: {type(error).__name__}"  # its message may quote the value
        raise InvalidInputs([Problem(place, what)]) from error
    what = f"{inside} inside a model would open files here; DSPy 3.3 and later does not"
    raise InvalidInputs([Problem(place, what)])


def convert_text(declared: Input, text: str, place: str) -> Any:
    """The value that a text stands for: itself, or what it is as JSON.

    Raises:
        InvalidInputs: it is neither.
    """
    try:
        return convert_one(declared, text, place)
    except InvalidInputs as error:
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            raise error from None
        if isinstance(value, str):
            raise
        return convert_one(declared, value, place)


def adapter_of(declared: Input) -> TypeAdapter[Any]:
    """What checks the values of an input; of one whose type pydantic cannot read, anything goes."""
    try:
        return _adapter(declared.annotation)
    except TypeError:  # an annotation that cannot be a key, such as ``Annotated[int, []]``
        return _make_adapter(declared.annotation)


def _make_adapter(annotation: Any) -> TypeAdapter[Any]:
    from pydantic import ConfigDict, PydanticUserError, TypeAdapter

    try:
        return TypeAdapter(with_media(annotation))
    except PydanticUserError:  # a class of its own: only instances of it are values
        try:
            config = ConfigDict(arbitrary_types_allowed=True)
            return TypeAdapter(with_media(annotation), config=config)
        except PydanticUserError:
            return TypeAdapter(Any)


_adapter = functools.lru_cache(maxsize=1024)(_make_adapter)
