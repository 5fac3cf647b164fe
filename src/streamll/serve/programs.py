"""What a server knows of a program: its name, its inputs, its reply. Does not import dspy."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from streamll.core.errors import ConfigurationError


class InputField(msgspec.Struct, frozen=True, kw_only=True):
    """One input of a program, for a form."""

    name: str
    type: str = "str"
    description: str = ""
    required: bool = True


class Served(msgspec.Struct, frozen=True, kw_only=True):
    """A program and how it is served.

    Attributes:
        name: what requests call it.
        program: a ``dspy.Module`` or a function.
        fields: the output fields to stream; all by default.
        reply: the field that the chat formats give as text; by default the last one of the last
            predictor.
        from_messages: makes the inputs from a chat's messages (``{"role", "content"}``); by default
            the last user message is the first input.
    """

    name: str
    program: Callable[..., Any]
    fields: str | tuple[str, ...] = "*"
    reply: str | None = None
    from_messages: Callable[[list[dict[str, Any]]], Mapping[str, Any]] | None = None

    def inputs(self) -> tuple[InputField, ...]:
        """The inputs that the program declares, for a form."""
        return inputs_of(self.program)

    def inputs_from(self, messages: list[dict[str, Any]]) -> dict[str, Any]:
        """Inputs for a chat's messages; ``ValueError`` if there is no input, or no user message,
        or the last of them has no text.
        """
        if self.from_messages is not None:
            return dict(self.from_messages(messages))
        texts = [m["content"] for m in messages if m.get("role") == "user"]
        names = [field.name for field in self.inputs()]
        if not texts or not texts[-1].strip():
            what = "the last user message has no text" if texts else "no user message"
            raise ValueError(f"{what}, which {self.name} would answer")
        if not names:
            raise ValueError(f"{self.name} has no input that could take the message")
        return {names[0]: texts[-1]}

    def check(self, inputs: Mapping[str, Any]) -> None:
        """Raise ``ValueError`` for an unknown or missing input."""
        required = {field.name: field.required for field in self.inputs()}
        for name in sorted(inputs.keys() - required.keys()) if required else ():
            known = ", ".join(sorted(required))
            raise ValueError(f"{self.name} has no input {name!r}; it has {known}")
        for name in sorted(required.keys() - inputs.keys()):
            if required[name]:
                raise ValueError(f"{self.name} needs the input {name!r}")


def served(programs: Any) -> dict[str, Served]:
    """Programs by name, from one program, a mapping of several, or ``Served`` ones.

    Raises:
        ConfigurationError: it is something else, or an empty mapping.
    """
    if programs is None:
        return {}  # a server that only shows what others run
    if isinstance(programs, Served):
        programs = {programs.name: programs}
    elif not isinstance(programs, Mapping):
        programs = {getattr(programs, "__name__", type(programs).__name__): programs}
    made = {}
    for name, program in programs.items():
        each = program if isinstance(program, Served) else Served(name=name, program=program)
        if isinstance(each.program, type):
            what = each.program.__name__
            raise ConfigurationError(f"{what} is a class: serve an instance of it, {what}()")
        if not callable(each.program):
            raise ConfigurationError(f"{name!r} is {type(each.program).__name__}, not a program")
        if each.reply is None:
            each = msgspec.structs.replace(each, reply=reply_of(each.program))
        made[name] = each
    if not made:
        raise ConfigurationError("create_app needs a program to serve")
    return made


def reply_of(program: Any) -> str | None:
    """The field that holds a program's answer: the last one of its last predictor."""
    predictors = list(getattr(program, "named_predictors", list)())
    if not predictors:
        return None
    name, predictor = predictors[-1]
    fields = list(predictor.signature.output_fields)
    if not fields:
        return None
    unique = sum(fields[-1] in each.signature.output_fields for _, each in predictors) == 1
    return fields[-1] if unique else f"{name}.{fields[-1]}"


def inputs_of(program: Any) -> tuple[InputField, ...]:
    """The inputs of a module or function, as far as they are declared."""
    signature = getattr(program, "signature", None)
    if hasattr(signature, "input_fields"):
        return _of_signature(signature)
    predictors = list(getattr(program, "predictors", list)())
    kind = type(program)  # DSPy warns on access to ``program.forward``; this is the same function
    function = getattr(kind, "forward", None) or getattr(kind, "aforward", None) or program
    try:
        named = parameters_of(function)
    except (TypeError, ValueError):
        named = []
    if named and (function is not program or not predictors):
        return tuple(
            InputField(name=p.name, type=_type_name(p.annotation), required=p.default is p.empty)
            for p in named
        )
    return _of_signature(predictors[0].signature) if predictors else ()


def parameters_of(function: Any) -> list[inspect.Parameter]:
    """The parameters that can be passed by name, without ``self``."""
    by_name = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY
    parameters = inspect.signature(function).parameters.values()
    return [each for each in parameters if each.kind in by_name and each.name != "self"]


def _of_signature(signature: Any) -> tuple[InputField, ...]:
    inputs = []
    for name, field in signature.input_fields.items():
        description = str((field.json_schema_extra or {}).get("desc") or "")
        if description == f"${{{name}}}":  # what DSPy puts where none was given
            description = ""
        kind = _type_name(field.annotation)
        needed = field.is_required()
        inputs.append(InputField(name=name, type=kind, description=description, required=needed))
    return tuple(inputs)


def _type_name(annotation: Any) -> str:
    if annotation is inspect.Parameter.empty:
        return "str"
    return getattr(annotation, "__name__", None) or str(annotation)
