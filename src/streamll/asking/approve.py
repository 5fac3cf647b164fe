"""``approve``: a tool that asks a person before it does anything."""

from __future__ import annotations

import functools
import inspect
import json
import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from decimal import Decimal
from typing import Any, NamedTuple

from streamll.asking.answers import PLACE, AnswerType
from streamll.asking.ask import asked
from streamll.asking.questions import NO_DEFAULT, Unasked
from streamll.asking.questions import Question as OpenQuestion
from streamll.context import current_scope
from streamll.core.errors import ConfigurationError
from streamll.core.events import Event, Question
from streamll.core.jsonable import plain
from streamll.flow.waiting import is_async_function, on_event_loop

EXPONENT = 1e21
"""From here on JavaScript writes a number with an exponent."""


class Decision(NamedTuple):
    """What a person said to a call of a tool. ``arguments`` are those to change."""

    allow: bool
    arguments: Mapping[str, Any] = {}
    reason: str | None = None


def approve(
    tool: Any,
    *,
    when: Callable[..., object] | None = None,
    show: bool = True,
    timeout: float | None = None,
    default: bool | None = None,
    to: str | None = None,
) -> Any:
    """Make a tool ask a person before each call, and do nothing without their yes.

    Like ``ask``, of which this is a ready question, it works inside a run. The answer is ``True``
    or ``False``, or an object: ``{"allow": True, "arguments": {…}}`` calls the tool with these
    arguments in place of the same ones of its own, ``{"allow": False, "reason": "…"}`` tells the
    model why not. What comes back as the question showed it is not changed: a page may send all of
    them, and guards may have masked some. A refusal is the tool's result, so that an agent goes on
    with it.

    ``dspy.CodeAct`` does not call its tools: it runs their source in an interpreter. There a tool
    cannot ask, and the agent's calls raise ``ConfigurationError``; ``dspy.ReAct`` calls them.

    Args:
        tool: a ``dspy.Tool``, or a function, which may be async; the same kind is returned.
        when: called with the tool's arguments, by name; the tool is called without asking where the result is
            false. Default: ask always.
        show: let those who are asked see the arguments, in the ``question`` event.
        timeout: seconds to wait; by default for ever.
        default: ``True`` or ``False``: what holds where nobody can be asked, nobody answers in
            time, or somebody declines to. Without it such a call fails, with the errors of ``ask``.
        to: whose answer is wanted.

    Raises:
        ConfigurationError: ``tool`` is neither; ``default`` is something else, which would count as
            true; ``when`` is a coroutine function.
    """
    import dspy

    if default not in (True, False, None):
        raise ConfigurationError(f"approve's default is True, False or None, not {default!r}")
    if when is not None and (not callable(when) or is_async_function(when)):
        raise ConfigurationError(
            f"approve's when is an ordinary function of the tool's arguments, not {when!r}"
        )
    question = _Approval(when, show, timeout, default, to)
    if isinstance(tool, dspy.Tool):
        return tool.model_copy(update={"func": question.before(tool.func, tool)})
    if isinstance(tool, type) or not callable(tool):
        raise ConfigurationError(f"approve takes a dspy.Tool or a function, not {tool!r}")
    return question.before(tool, dspy.Tool(tool))


def approve_each(tool: Any) -> Any:
    """``approve(tool)`` of a ``dspy.Tool``. One that asks by itself keeps its way, but asks each time."""
    asking = getattr(tool.func, "__wrapped__", None)
    if not isinstance(asking, _AskingFunction):
        return approve(tool)
    each = asking.question._replace(when=None)
    return tool.model_copy(update={"func": each.before(asking.function, tool)})


def asks(function: Any) -> bool:
    """Whether ``approve`` has made this function."""
    return isinstance(getattr(function, "__wrapped__", None), _AskingFunction)


class _Approval(NamedTuple):
    """The options of ``approve``."""

    when: Callable[..., object] | None
    show: bool
    timeout: float | None
    default: bool | None
    to: str | None

    def before(self, function: Callable[..., Any], tool: Any) -> Callable[..., Any]:
        """``function``, which ``tool`` describes, called only if a person allows it."""
        signature = inspect.signature(function)

        async def call_async(bound: inspect.BoundArguments) -> Any:
            with self._asked(tool, bound) as question:
                await question.wait_async()
                decision: Decision = question.result()
            if not decision.allow:
                return _refusal(tool.name, decision)
            result = function(*_change(bound, decision).args, **bound.kwargs)
            return await result if inspect.isawaitable(result) else result

        @functools.wraps(function)
        async def approved_async(*args: Any, **kwargs: Any) -> Any:
            return await call_async(signature.bind(*args, **kwargs))

        @functools.wraps(function)
        def approved(*args: Any, **kwargs: Any) -> Any:
            bound = signature.bind(*args, **kwargs)
            if on_event_loop() and _is_called_by_tool():
                return call_async(bound)  # a ``dspy.Tool`` awaits what it gets
            with self._asked(tool, bound) as question:
                question.wait()
                decision: Decision = question.result()
            if not decision.allow:
                return _refusal(tool.name, decision)
            return function(*_change(bound, decision).args, **bound.kwargs)

        asking = approved_async if inspect.iscoroutinefunction(function) else approved
        vars(asking).update(__signature__=signature, __wrapped__=_AskingFunction(self, function))
        return asking

    def _asked(
        self, tool: Any, bound: inspect.BoundArguments
    ) -> AbstractContextManager[OpenQuestion | Unasked]:
        arguments = _by_name(bound)
        if self.when is not None and not self.when(**arguments):
            return Unasked(Decision(allow=True))
        default = NO_DEFAULT if self.default is None else Decision(bool(self.default))
        return asked(
            _Approvals(tool, arguments, shown=self.show), default, self.timeout,
            text=f"Allow {tool.name}?", to=self.to, tool=tool.name,
            arguments=plain(arguments) if self.show else None,
        )  # fmt: skip


class _AskingFunction:
    """What an approved function says that it wraps: of ``function`` only type hints can be found.

    Not ``function`` itself: whoever looks for the source, such as ``dspy.CodeAct``, which runs that
    in an interpreter, would find one that asks nobody.
    """

    def __init__(self, question: _Approval, function: Callable[..., Any]) -> None:
        self.question = question
        self.function = function
        self.__globals__ = getattr(inspect.unwrap(function), "__globals__", {})


class _Approvals(AnswerType):
    """The answers to whether a tool may be called."""

    def __init__(self, tool: Any, called_with: Mapping[str, Any], *, shown: bool) -> None:
        arguments = {name: _schema_of(each) for name, each in (tool.args or {}).items()}
        edited = {
            "type": "object",
            "properties": arguments,
            "additionalProperties": bool(tool.has_kwargs),
        }
        super().__init__(
            {
                "type": ["boolean", "object"],
                "properties": {
                    "allow": {"type": "boolean"},
                    "arguments": edited,
                    "reason": {"type": "string"},
                },
                "required": ["allow"],
                "additionalProperties": False,
            }
        )
        self._types: Mapping[str, Any] = tool.arg_types or {}
        self._called_with = called_with
        self._shown = shown

    def convert(self, answer: Any, question: Event | None = None) -> Decision:
        answer = super().convert(answer)
        if isinstance(answer, bool):
            return Decision(answer)
        arguments = self._changed(answer.get("arguments", {}), question)
        arguments = {name: self._converted(name, value) for name, value in arguments.items()}
        return Decision(answer["allow"], arguments, answer.get("reason"))

    def _changed(self, given: Mapping[str, Any], question: Event | None) -> Mapping[str, Any]:
        """Those of the given arguments that the question has not shown so."""
        if not isinstance(question, Question) or question.arguments is None:
            return given
        shown, own = plain(question.arguments), plain(self._called_with)
        return {
            name: _merged(value, shown[name], own[name]) if name in shown and name in own else value
            for name, value in given.items()
            if name not in shown or not _is_same(value, shown[name])
        }

    def _converted(self, name: str, value: Any) -> Any:
        from pydantic import TypeAdapter

        validate = TypeAdapter(self._types.get(name, Any)).validate_python
        return self.validated(f"{PLACE}.arguments.{name}", validate, value)

    def told(self, value: Decision) -> Any:
        told: dict[str, Any] = {"allow": value.allow}
        if value.arguments and self._shown:
            told["arguments"] = plain(value.arguments)
        if value.reason is not None:
            told["reason"] = value.reason
        return told


def _schema_of(argument: Mapping[str, Any]) -> Mapping[str, Any]:
    """An argument's schema, as far as it is one. Tools of other makers describe theirs in many ways."""
    schema = {key: value for key, value in argument.items() if (key, value) != ("type", "Any")}
    try:
        return AnswerType(schema).schema
    except ConfigurationError:
        return {}


def _merged(edited: Any, shown: Any, own: Any) -> Any:
    """A value that a person has edited, with the program's own in each place where it is as they saw it."""
    values = (edited, shown, own)
    if _is_same(edited, shown):
        return own
    if all(isinstance(each, Mapping) for each in values):
        both = shown.keys() & own.keys()
        return {
            key: _merged(value, shown[key], own[key]) if key in both else value
            for key, value in edited.items()
        }
    if all(isinstance(each, list) for each in values) and len({*map(len, values)}) == 1:
        return list(map(_merged, *values))
    return edited


def _is_same(one: Any, shown: Any) -> bool:
    """Whether one is the JSON that was shown, or what a page makes of that; 1 and true are not the same."""
    said = json.dumps(one, sort_keys=True)
    return any(said == json.dumps(v, sort_keys=True) for v in (shown, _as_in_javascript(shown)))


def _as_in_javascript(value: Any) -> Any:
    """The JSON as JavaScript writes it once it has read it: there 3.0 is 3, and 2**53 + 1 is 2**53."""
    if isinstance(value, dict):
        return {key: _as_in_javascript(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_as_in_javascript(each) for each in value]
    if type(value) not in (int, float):
        return value
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        return None  # JSON has no word for it
    if number.is_integer() and abs(number) < EXPONENT:
        return int(Decimal(repr(number)))  # the fewest digits that tell it apart, then zeros
    return number


def _refusal(tool: str, decision: Decision) -> str:
    said = f": {decision.reason}" if decision.reason else ""
    return f"The call of {tool} was refused{said}"


def _by_name(bound: inspect.BoundArguments) -> dict[str, Any]:
    """All arguments by their names, those of a ``**kwargs`` among them."""
    arguments = dict(bound.arguments)
    for name, parameter in bound.signature.parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            arguments |= arguments.pop(name, {})
    return arguments


def _change(bound: inspect.BoundArguments, decision: Decision) -> inspect.BoundArguments:
    """The call with the arguments that the person has changed."""
    parameters = bound.signature.parameters
    others = next((n for n, each in parameters.items() if each.kind is each.VAR_KEYWORD), "")
    for name, value in decision.arguments.items():
        if name in parameters:
            bound.arguments[name] = value
        else:
            bound.arguments.setdefault(others, {})[name] = value
    return bound


def _is_called_by_tool() -> bool:
    scope = current_scope()
    return scope is not None and scope.run.current_kind() == "tool"
