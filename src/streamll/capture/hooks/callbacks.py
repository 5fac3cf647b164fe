"""DSPy's callbacks, turned into frames and events of the current run.

One stateless instance serves every run: each call finds its run through the scope. A callback
never raises into the program, except ``Unwind``, which stops a program that was left.
"""

from __future__ import annotations

import time
from typing import Any

import dspy
from dspy.utils.callback import BaseCallback

from streamll.capture.hooks.tracebacks import hide_callback
from streamll.capture.inside_dspy import ACTIVE_CALL_ID, ADAPTER_CALLS
from streamll.capture.reply.lm_call import LMCall
from streamll.capture.reply.outcome import text_of
from streamll.capture.run.frames import Frame
from streamll.capture.run.privacy import describe, included
from streamll.capture.run.run import Run, as_mapping
from streamll.capture.run.scope import Scope, current_scope
from streamll.core.events import (
    LMEnd,
    LMStart,
    ModuleEnd,
    ModuleError,
    ModuleStart,
    Status,
    ToolEnd,
    ToolError,
    ToolStart,
)


class Format:
    """What an adapter rendered for one LM call: the messages tell which call it was."""

    def __init__(self, adapter: Any, owner: Frame) -> None:
        self.adapter = adapter
        self.owner = owner
        self.signature: Any = None
        self.messages: Any = None


class CaptureCallback(BaseCallback):  # type: ignore[misc]
    """Hears every DSPy call made inside a captured one."""

    # --- modules ----------------------------------------------------------------------------------

    def on_module_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        scope = current_scope()
        if scope is None:
            return
        scope.check()
        frame = _open(scope, "module", call_id, instance, scope.run.names.of(instance))
        if (predictor := scope.run.names.predictor(instance)) is not None:
            frame.predictor = predictor
        scope.run.publish(
            ModuleStart, scope, frame.identity(scope.run.run_id),
            name=frame.name, inputs=included("inputs", _arguments(inputs)),
        )  # fmt: skip
        _say("module_start", scope, instance, inputs)

    def on_module_end(
        self, call_id: str, outputs: Any | None, exception: BaseException | None = None
    ) -> None:
        frame = _close(call_id)
        if frame is None:
            return
        run, scope = frame.scope.run, frame.scope
        identity = frame.identity(run.run_id, attempt=frame.attempt)
        duration = time.monotonic() - frame.started
        if exception is not None:
            hide_callback(exception, frame.instance)
            name, message = describe(exception)
            run.publish(
                ModuleError, scope, identity,
                name=frame.name, duration=duration, error_type=name, message=message,
            )  # fmt: skip
            return
        if frame.lm_calls and isinstance(frame.instance, dspy.Predict):
            frame.lm_calls[-1].settle(outputs)
        run.publish(
            ModuleEnd, scope, identity,
            name=frame.name, duration=duration, outputs=included("outputs", outputs, as_mapping),
        )  # fmt: skip
        _say("module_end", scope, frame.instance, outputs)

    # --- tools ------------------------------------------------------------------------------------

    def on_tool_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        scope = current_scope()
        if scope is None:
            return
        scope.check()
        if _is_told(scope.run, str(instance.name)):
            return
        frame = _open(scope, "tool", call_id, instance, str(instance.name))
        scope.run.publish(
            ToolStart, scope, frame.identity(scope.run.run_id),
            name=frame.name, arguments=included("tools", _arguments(inputs)),
        )  # fmt: skip
        _say("tool_start", scope, instance, inputs)

    def on_tool_end(
        self, call_id: str, outputs: Any | None, exception: BaseException | None = None
    ) -> None:
        frame = _close(call_id)
        _end_step(frame, outputs, exception)
        if frame is not None and exception is not None:
            _say("tool_error", frame.scope, frame.instance, exception)
        elif frame is not None:
            _say("tool_end", frame.scope, frame.instance, outputs)

    # --- language models ----------------------------------------------------------------------------

    def on_lm_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        scope = current_scope()
        if scope is None:
            return
        scope.check()
        run = scope.run
        frame = _open(scope, "lm", call_id, instance, str(getattr(instance, "model", instance)))
        caller, owner = frame.parent, frame
        format_ = _format_of(caller, inputs) if caller is not None else None
        if caller is not None and format_ is not None:
            frame.path, frame.predictor = caller.path, caller.predictor
            owner = _owner(frame, caller)
        call = LMCall(scope, frame, owner, format_)
        if caller is not None and format_ is not None:
            call.adapter_calls = ADAPTER_CALLS.get()
            caller.lm_calls.append(call)
        frame.lm_calls = [call]
        run.opened(call)
        run.publish(
            LMStart, scope, frame.identity(run.run_id, attempt=owner.attempt),
            model=frame.name, messages=included("prompts", _prompt(inputs)),
        )  # fmt: skip
        _say("lm_start", scope, instance, inputs)

    def on_lm_end(
        self, call_id: str, outputs: Any | None, exception: BaseException | None = None
    ) -> None:
        frame = _close(call_id)
        if frame is None or not frame.lm_calls:
            return
        run = frame.scope.run
        call: LMCall = frame.lm_calls[0]
        result = call.result
        cached = bool(getattr(result, "cache_hit", False))
        if exception is None and cached:
            call.deliver_cached(_output_text(outputs))
        if exception is not None:
            hide_callback(exception, frame.instance)
            call.abandon(type(exception).__name__)
        run.ended(call, failed=exception is not None)
        usage = getattr(result, "usage", None) or {}
        prompt_tokens = int(usage.get("prompt_tokens") or 0)
        completion_tokens = int(usage.get("completion_tokens") or 0)
        cost = None if cached else getattr(result, "cost", None)
        run.totals.add(prompt_tokens, completion_tokens, cost)
        run.publish(
            LMEnd, frame.scope, frame.identity(run.run_id, attempt=call.owner.attempt),
            model=frame.name, duration=time.monotonic() - frame.started,
            prompt_tokens=prompt_tokens, completion_tokens=completion_tokens, cost=cost,
            cached=cached, streamed=call.streamed and not cached,
            time_to_first_token=(
                None if call.first_text is None else call.first_text - frame.started
            ),
            finish_reason=call.finish_reason,
            error_type=type(exception).__name__ if exception is not None else None,
        )  # fmt: skip
        if exception is None:
            _say("lm_end", frame.scope, instance=frame.instance, value=outputs)

    # --- adapters: which signature and adapter the next LM call belongs to --------------------------

    def on_adapter_format_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        # ``format`` is wrapped once per inheritance level; only the innermost names its inputs.
        scope = current_scope()
        if scope is None:
            return
        run = scope.run
        parent = _running(run)
        if parent is None:
            return
        format_ = parent.formats[-1] if parent.kind == "format" else Format(instance, parent)
        frame = Frame("format", call_id, instance, "format", parent, scope, time.monotonic())
        frame.formats = [format_]
        run.frames[call_id] = frame
        if "signature" in inputs:
            format_.signature = inputs["signature"]

    def on_adapter_format_end(
        self, call_id: str, outputs: Any | None, exception: BaseException | None = None
    ) -> None:
        frame = _close(call_id)
        if frame is None or exception is not None:
            return
        format_ = frame.formats[0]
        format_.messages = outputs
        owner: Frame = format_.owner
        if frame.parent is owner and format_.signature is not None:
            owner.formats = [format_]

    def on_adapter_parse_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        # An adapter may ask another model what a reply means: that call is the predictor's, too.
        if (scope := current_scope()) is not None and (caller := _running(scope.run)) is not None:
            frame = Frame("parse", call_id, instance, "parse", caller, scope, time.monotonic())
            scope.run.frames[call_id] = frame

    def on_adapter_parse_end(
        self, call_id: str, outputs: Any | None, exception: BaseException | None = None
    ) -> None:
        _close(call_id)

    # --- code interpreters --------------------------------------------------------------------------

    def on_interpreter_execute_start(
        self, call_id: str, instance: Any, inputs: dict[str, Any]
    ) -> None:
        scope = current_scope()
        if scope is None:
            return
        scope.check()
        frame = _open(scope, "interpreter", call_id, instance, type(instance).__name__)
        scope.run.publish(
            ToolStart, scope, frame.identity(scope.run.run_id), name=frame.name,
            kind="interpreter", arguments=included("tools", {"code": inputs.get("code")}),
        )  # fmt: skip

    def on_interpreter_execute_end(
        self, call_id: str, outputs: Any | None, exception: BaseException | None = None
    ) -> None:
        _end_step(_close(call_id), outputs, exception)

    def on_interpreter_tool_call_start(
        self, call_id: str, instance: Any, inputs: dict[str, Any]
    ) -> None:
        scope = current_scope()
        if scope is None:
            return
        scope.check()
        name = str(inputs.get("tool_name") or inputs.get("name") or "tool")
        frame = _open(scope, "tool", call_id, instance, name)
        scope.run.publish(
            ToolStart, scope, frame.identity(scope.run.run_id),
            name=name, arguments=included("tools", _arguments(inputs)),
        )  # fmt: skip

    def on_interpreter_tool_call_end(
        self, call_id: str, outputs: Any | None, exception: BaseException | None = None
    ) -> None:
        _end_step(_close(call_id), outputs, exception)


CALLBACK = CaptureCallback()


def _say(moment: str, scope: Scope, instance: Any, value: Any) -> None:
    """Publish what the call's status message provider says of this moment, if there is one."""
    if scope.statuses is not None:
        message = scope.statuses.message(moment, instance, value)
        if message is not None:
            scope.publish(Status(message=message))


def _running(run: Run) -> Frame | None:
    """The frame of the call that is running here, seen through the adapter that parses."""
    frame = run.frames.get(ACTIVE_CALL_ID.get() or "")
    while frame is not None and frame.kind == "parse":
        frame = frame.parent
    return frame


def _open(scope: Scope, kind: str, call_id: str, instance: Any, name: str) -> Frame:
    run: Run = scope.run
    parent = _running(run)
    while parent is not None and parent.kind == "format":
        parent = parent.parent
    frame = Frame(kind, call_id, instance, name, parent, scope, time.monotonic())
    siblings = parent.children if parent is not None else run.roots
    frame.turn = siblings[name]
    siblings[name] += 1
    run.frames[call_id] = frame
    return frame


def _is_told(run: Run, tool: str) -> bool:
    """Whether an interpreter has said that the model's code calls this tool."""
    caller = run.frames.get(ACTIVE_CALL_ID.get() or "")
    return (
        caller is not None
        and caller.kind == "tool"
        and caller.name == tool
        and isinstance(caller.instance, dspy.CodeInterpreter)
    )


def _end_step(frame: Frame | None, outputs: Any | None, exception: BaseException | None) -> None:
    """Publish how a tool, or code of the model, ended."""
    if frame is None:
        return
    run, scope = frame.scope.run, frame.scope
    identity = frame.identity(run.run_id)
    duration = time.monotonic() - frame.started
    facts = {"name": frame.name, "kind": frame.kind, "duration": duration}
    if exception is None:
        run.publish(ToolEnd, scope, identity, **facts, result=included("tools", outputs))
        return
    hide_callback(exception, frame.instance)
    name, message = describe(exception)
    run.publish(ToolError, scope, identity, **facts, error_type=name, message=message)


def _close(call_id: str) -> Frame | None:
    """The frame of a call that has ended; ``None`` if it is nobody's or its run is over."""
    scope = current_scope()
    return scope.run.frames.pop(call_id, None) if scope is not None else None


def _format_of(predictor: Frame, inputs: dict[str, Any]) -> Format | None:
    """What was rendered for this very LM call: its messages are the adapter's, by identity."""
    messages = inputs.get("messages")
    for format_ in predictor.formats:
        if format_.messages is messages:
            found: Format = format_
            return found
    # A plugin may pass the messages on as a copy; the latest rendering is then the best guess.
    latest: Format | None = predictor.formats[-1] if predictor.formats else None
    return latest if messages is not None else None


def _owner(frame: Frame, caller: Frame) -> Frame:
    """In whose name an LM call speaks that an adapter makes for ``caller``.

    The first to speak for a predictor speaks as the predictor's call, and so does a fallback in
    its stead. Others speak as themselves: a field is streamed once in each name.
    """
    before: LMCall | None = caller.lm_calls[-1] if caller.lm_calls else None
    if before is None:
        return caller if isinstance(caller.instance, dspy.Predict) else frame
    if before.owner is not caller:
        return frame
    if _extends(ADAPTER_CALLS.get(), before.adapter_calls):
        before.supersede("fallback")
        return caller
    return frame if before.has_fields or before.under_way else caller


def _extends(later: tuple[Any, ...], earlier: tuple[Any, ...]) -> bool:
    """Whether an LM call was made by the fallback of an adapter call that made an earlier one.

    DSPy keeps a tuple of adapter calls under way; a fallback runs inside the failed one. The
    entries compare equal by value, so identity decides.
    """
    return (
        bool(earlier)
        and len(later) > len(earlier)
        and all(a is b for a, b in zip(earlier, later, strict=False))
    )


def _arguments(inputs: dict[str, Any]) -> dict[str, Any]:
    """A call's arguments as one mapping: positional ones under their position."""
    named = inputs.get("kwargs")
    positional = inputs.get("args") or ()
    if not isinstance(named, dict):
        return inputs
    return {**{str(i): value for i, value in enumerate(positional)}, **named}


def _prompt(inputs: dict[str, Any]) -> Any:
    return inputs.get("messages") or inputs.get("prompt")


def _output_text(outputs: Any) -> str:
    if isinstance(outputs, list) and outputs:
        first = outputs[0]
        return (first if isinstance(first, str) else first.get("text")) or ""
    return text_of(outputs)
