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

    Args:
        fields: the output fields to stream.
        reply: the field that the chat formats give as text.
        from_messages: makes the inputs from a chat's messages (``{"role", "content"}``); by default
            the last user message is the first input.
    """

    name: str
    program: Callable[..., Any]
    fields: str | tuple[str, ...] = "*"
    reply: str | None = None
    from_messages: Callable[[list[dict[str, Any]]], Mapping[str, Any]] | None = None

    def inputs(self) -> tuple[InputField, ...]:
        return inputs_of(self.program)

    def inputs_from(self, messages: list[dict[str, Any]]) -> dict[str, Any]:
        """Inputs for a chat's messages.

        Raises:
            ValueError: there is no user message, or the program has no input.
        """
        if self.from_messages is not None:
            return dict(self.from_messages(messages))
        texts = [m["content"] for m in messages if m.get("role") == "user" and m.get("content")]
        names = [field.name for field in self.inputs()]
        if not texts:
            raise ValueError("no user message with text")
        if not names:
            raise ValueError(f"{self.name} has no input that could take the message")
        return {names[0]: texts[-1]}

    def check(self, inputs: Mapping[str, Any]) -> None:
        """Raise ``ValueError`` for an unknown or missing input."""
        known = self.inputs()
        if not known:
            return
        names = sorted(field.name for field in known)
        for name in sorted(set(inputs).difference(names)):
            raise ValueError(f"{self.name} has no input {name!r}; it has {', '.join(names)}")
        for name in sorted(field.name for field in known if field.required):
            if name not in inputs:
                raise ValueError(f"{self.name} needs the input {name!r}")


def served(programs: Any) -> dict[str, Served]:
    """Programs by name, from one program, a mapping of several, or ``Served`` ones.

    Raises:
        ConfigurationError: it is something else, or an empty mapping.
    """
    if programs is None:
        return {}  # a server that only shows what others run
    given = programs if isinstance(programs, Mapping) else {_name_of(programs): programs}
    made = {}
    for name, program in given.items():
        each = program if isinstance(program, Served) else Served(name=name, program=program)
        if not callable(each.program):
            raise ConfigurationError(f"{name!r} is {type(each.program).__name__}, not a program")
        if each.reply is None:
            each = msgspec.structs.replace(each, reply=reply_of(each.program))
        made[name] = each
    if not made:
        raise ConfigurationError("create_app needs a program to serve")
    return made


def _name_of(program: Any) -> str:
    if isinstance(program, Served):
        return program.name
    return str(getattr(program, "__name__", type(program).__name__))


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
    if signature is not None and hasattr(signature, "input_fields"):
        return _of_signature(signature)
    predictors = list(getattr(program, "predictors", list)())
    kind = type(program)
    function = getattr(kind, "forward", None) or getattr(kind, "aforward", None) or program
    try:
        parameters = [
            p for p in inspect.signature(function).parameters.values() if p.name != "self"
        ]
    except (TypeError, ValueError):
        parameters = []
    named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    if (named and function is not program) or (named and not predictors):
        return tuple(_of_parameter(parameter) for parameter in named)
    return _of_signature(predictors[0].signature) if predictors else ()


def _of_signature(signature: Any) -> tuple[InputField, ...]:
    return tuple(
        InputField(
            name=name,
            type=getattr(field.annotation, "__name__", str(field.annotation)),
            description=_description(name, field),
        )
        for name, field in signature.input_fields.items()
    )


def _description(name: str, field: Any) -> str:
    extra = getattr(field, "json_schema_extra", None) or {}
    text = str(extra.get("desc") or "")
    return "" if text == f"${{{name}}}" else text


def _of_parameter(parameter: inspect.Parameter) -> InputField:
    annotation = parameter.annotation
    shown = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", "")
    return InputField(
        name=parameter.name,
        type="str" if annotation is parameter.empty else shown or str(annotation),
        required=parameter.default is parameter.empty,
    )
