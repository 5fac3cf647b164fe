"""The inputs that a program declares: by its signature, or by the parameters of its ``forward``."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable
from typing import Any

import msgspec

from streamll.serve.inputs.annotations import admits_none, is_history


class Input(msgspec.Struct, frozen=True, kw_only=True):
    """One input of a program.

    Attributes:
        name: what it is passed as.
        annotation: its type; ``Any`` where none is declared.
        description: of its signature.
        required: whether a call without it fails.
        default: what it is without being given; ``msgspec.UNSET`` where nobody says.
        is_history: it is ``dspy.History``; an empty one if it is left out.
        none_if_left_out: it may be left out, and the program is then given ``None``.
    """

    name: str
    annotation: Any = Any
    description: str = ""
    required: bool = True
    default: Any = msgspec.UNSET
    is_history: bool = False
    none_if_left_out: bool = False

    @property
    def type(self) -> str:
        """The type's name, for people. ``"str"`` where none is declared."""
        if self.annotation is Any:
            return "str"
        is_plain = inspect.isclass(self.annotation) and not typing.get_args(self.annotation)
        return self.annotation.__name__ if is_plain else typing_name(self.annotation)


def typing_name(annotation: Any) -> str:
    """A type as it is written, without the modules it is from."""
    text = str(annotation).replace("typing.", "").replace("NoneType", "None")
    for part in sorted(_named(annotation), key=len, reverse=True):
        text = text.replace(part, part.rpartition(".")[2])
    return text


def _named(annotation: Any) -> set[str]:
    args = typing.get_args(annotation)
    found = {f"{each.__module__}.{each.__qualname__}" for each in args if inspect.isclass(each)}
    return found.union(*(_named(each) for each in args))


def inputs_of(program: Any) -> tuple[Input, ...]:
    """The inputs of a module or function, as far as they are declared.

    A parameter without an annotation has that of the predictors' input of this name.
    """
    signature = getattr(program, "signature", None)
    if hasattr(signature, "input_fields"):
        return of_signature(signature)
    predictors = list(getattr(program, "predictors", list)())
    kind = type(program)  # DSPy warns on access to ``program.forward``; this is the same function
    function = getattr(kind, "forward", None) or getattr(kind, "aforward", None) or program
    try:
        named = parameters_of(function)
    except (TypeError, ValueError):
        named = []
    if named and (function is not program or not predictors):
        hints = _hints(function)
        inside = {
            each.name: each
            for predictor in reversed(predictors)
            for each in of_signature(predictor.signature)
        }
        return tuple(_of_parameter(p, hints, inside.get(p.name)) for p in named)
    return of_signature(predictors[0].signature) if predictors else ()


def parameters_of(function: Any) -> list[inspect.Parameter]:
    """The parameters that can be passed by name, without ``self``."""
    by_name = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY
    parameters = inspect.signature(function).parameters.values()
    return [each for each in parameters if each.kind in by_name and each.name != "self"]


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    target = function if inspect.isroutine(function) else type(function).__call__
    try:
        return typing.get_type_hints(target, include_extras=True)
    except Exception:  # noqa: BLE001 - an annotation that means nothing where it stands
        return {}


def _of_parameter(
    parameter: inspect.Parameter, hints: dict[str, Any], inside: Input | None
) -> Input:
    annotation = hints.get(parameter.name, parameter.annotation)
    if annotation is parameter.empty or isinstance(annotation, str):
        annotation = Any if inside is None else inside.annotation
    description = "" if inside is None else inside.description
    default = msgspec.UNSET if parameter.default is parameter.empty else parameter.default
    return _input(parameter.name, annotation, description, default)


def _input(name: str, annotation: Any, description: str, default: Any) -> Input:
    open_ = default is msgspec.UNSET
    history = is_history(annotation)
    optional = open_ and not history and admits_none(annotation)
    return Input(
        name=name,
        annotation=annotation,
        description=description,
        required=open_ and not history and not optional,
        default=default,
        is_history=history,
        none_if_left_out=optional,
    )


def of_signature(signature: Any) -> tuple[Input, ...]:
    """The inputs of a ``dspy.Signature``."""
    inputs = []
    for name, field in signature.input_fields.items():
        default = msgspec.UNSET
        if not field.is_required():
            default = field.get_default(call_default_factory=True)
        inputs.append(_input(name, field.annotation, _description(name, field), default))
    return tuple(inputs)


def outputs_of_signature(signature: Any) -> tuple[Input, ...]:
    """The output fields of a ``dspy.Signature``, in the form of inputs."""
    return tuple(
        Input(name=name, annotation=field.annotation, description=_description(name, field))
        for name, field in signature.output_fields.items()
    )


def _description(name: str, field: Any) -> str:
    text = str((field.json_schema_extra or {}).get("desc") or "")
    return "" if text == f"${{{name}}}" else text  # what DSPy puts where none was given
