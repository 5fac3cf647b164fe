"""DSPy's callbacks, turned into frames and events of the current run.

One stateless instance serves every run: each call finds its run through the scope. A callback
never raises into the program, except ``Unwind``, which stops a program that was left.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from typing import Any

import dspy
from dspy.utils.callback import BaseCallback

from streamll.capture.hooks import evaluations
from streamll.capture.hooks.tracebacks import hide_callback
from streamll.capture.inside_dspy import ACTIVE_CALL_ID, ADAPTER_CALLS
from streamll.capture.reply.attempt_fields import AttemptFields
from streamll.capture.reply.call_fields import CallFields
from streamll.capture.reply.lm_call import LMCall
from streamll.capture.reply.outcome import text_of
from streamll.capture.run.enter import enter_outermost, inputs_of, leave_outermost
from streamll.capture.run.frames import DIRECT_CALL, Frame
from streamll.capture.run.run import Run, as_mapping
from streamll.capture.run.scope import Scope, current_scope
from streamll.configuration import describe, included
from streamll.core import events as ev

AGENTS = tuple(
    agent
    for name in ("ReAct", "ReActV2", "CodeAct", "RLM")
    if isinstance(agent := getattr(dspy, name, None), type)
)
Inputs = dict[str, Any]
Failure = BaseException | None


@dataclass(eq=False)
class RenderedPrompt:
    """What an adapter rendered for one LM call; the identity of ``messages`` tells for which."""

    adapter: Any
    owner: Frame
    signature: Any = None
    messages: Any = None


class CaptureCallback(BaseCallback):  # type: ignore[misc]
    """Called at the start and end of every DSPy call that is made inside a captured one."""

    # --- modules ----------------------------------------------------------------------------------

    def on_module_start(self, call_id: str, instance: Any, inputs: Inputs) -> None:
        if isinstance(instance, dspy.BaseLM):  # before 3.2 only a ``dspy.LM`` is one to DSPy
            self.on_lm_start(call_id, instance, inputs)
            return
        if (scope := _checked_scope()) is None:
            return
        caller = _caller(scope.run)
        name = scope.run.names.of(instance, caller.name if caller is not None else "")
        frame = _open(scope, "module", call_id, instance, name)
        if (predictor := scope.run.names.predictor(instance)) is not None:
            frame.predictor = predictor
        shown = included("inputs", _arguments(inputs))
        kind = {"kind": ev.AGENT} if _is_agent(instance) else {}
        _publish(frame, ev.ModuleStart, name=frame.name, inputs=shown, **kind)
        _publish_status("module_start", frame, inputs)

    def on_module_end(self, call_id: str, outputs: Any, exception: Failure = None) -> None:
        if (frame := _close(call_id)) is None:
            return
        if frame.kind == "lm":
            self._lm_ended(frame, outputs, exception)
            return
        exception = _failure(outputs, exception)
        if exception is not None:
            _publish_error(frame, ev.ModuleError, exception)
            return
        if isinstance(frame.instance, dspy.Predict):
            _settle(frame, outputs)
        _publish_end(frame, ev.ModuleEnd, outputs=included("outputs", outputs, as_mapping))
        _publish_status("module_end", frame, outputs)

    # --- tools, and the code interpreters of a model's code -----------------------------------------

    def on_tool_start(self, call_id: str, instance: Any, inputs: Inputs) -> None:
        scope = _checked_scope()
        if scope is None or _is_reported_by_interpreter(scope.run, str(instance.name)):
            return
        name, arguments = str(instance.name), _arguments(inputs)
        frame = _start_tool(scope, "tool", call_id, instance, name, arguments)
        _publish_status("tool_start", frame, inputs)

    def on_tool_end(self, call_id: str, outputs: Any, exception: Failure = None) -> None:
        if (frame := _close(call_id)) is not None:
            exception = _failure(outputs, exception)
            _publish_tool_end(frame, outputs, exception)
            if exception is None:
                _publish_status("tool_end", frame, outputs)
            else:
                _publish_status("tool_error", frame, exception)

    def on_interpreter_execute_start(self, call_id: str, instance: Any, inputs: Inputs) -> None:
        if (scope := _checked_scope()) is not None:
            name, arguments = type(instance).__name__, {"code": inputs.get("code")}
            _start_tool(scope, "interpreter", call_id, instance, name, arguments)

    def on_interpreter_tool_call_start(self, call_id: str, instance: Any, inputs: Inputs) -> None:
        if (scope := _checked_scope()) is not None:
            name = str(inputs.get("tool_name") or inputs.get("name") or "tool")
            _start_tool(scope, "tool", call_id, instance, name, _arguments(inputs))

    def on_interpreter_execute_end(
        self, call_id: str, outputs: Any, exception: Failure = None
    ) -> None:
        if (frame := _close(call_id)) is not None:
            _publish_tool_end(frame, outputs, exception)

    on_interpreter_tool_call_end = on_interpreter_execute_end

    # --- language models ----------------------------------------------------------------------------

    def on_lm_start(self, call_id: str, instance: Any, inputs: Inputs) -> None:
        if (scope := _checked_scope()) is None:
            return
        frame = _open(scope, "lm", call_id, instance, str(getattr(instance, "model", instance)))
        caller, owner = frame.parent, frame
        prompt = _prompt_of(caller, inputs) if caller is not None else None
        made_for = frame.instance
        if caller is not None and prompt is not None:
            frame.path, frame.predictor, frame.turn = caller.path, caller.predictor, caller.turn
            owner = _owner(frame, caller, prompt)
            made_for = caller.instance
        predictor = made_for if isinstance(made_for, dspy.Predict) else None
        call = LMCall(scope, frame, owner, predictor, prompt)
        call.adapter_calls = ADAPTER_CALLS.get()
        if caller is not None and prompt is not None:
            caller.lm_calls.append(call)
        frame.lm_calls = [call]
        scope.run.opened(call)
        messages = included("prompts", inputs.get("messages") or inputs.get("prompt"))
        _publish(frame, ev.LMStart, owner, model=frame.name, messages=messages)
        _publish_status("lm_start", frame, inputs)

    def on_lm_end(self, call_id: str, outputs: Any, exception: Failure = None) -> None:
        if (frame := _close(call_id)) is not None:
            self._lm_ended(frame, outputs, exception)

    def _lm_ended(self, frame: Frame, outputs: Any, exception: Failure) -> None:
        if not frame.lm_calls:
            return
        exception = _failure(outputs, exception)
        run = frame.scope.run
        call: LMCall = frame.lm_calls[0]
        result = call.result
        cached = bool(getattr(result, "cache_hit", False))
        if exception is None and cached:
            call.deliver_cached(text_of(outputs))
        if exception is not None:
            hide_callback(exception, frame.instance)
            call.abandon(type(exception).__name__)
        run.ended(call, failed=exception is not None)
        _publish(
            frame, ev.LMEnd, call.owner,
            model=call.model, duration=time.monotonic() - frame.started,
            cached=cached, streamed=call.streamed and not cached,
            finish_reason=call.finish_reason,
            error_type=type(exception).__name__ if exception is not None else None,
            **call.used(failed=exception is not None), **call.response,
            **({} if cached else call.times()),
        )  # fmt: skip
        if exception is None:
            _publish_status("lm_end", frame, outputs)

    # --- evaluations and optimizers -----------------------------------------------------------------

    def on_evaluate_start(self, call_id: str, instance: Any, inputs: Inputs) -> None:
        if (scope := _checked_scope()) is not None:
            frame = _open(scope, "evaluate", call_id, instance, type(instance).__name__)
            _publish(frame, ev.EvaluateStart, **evaluations.start_evaluation(frame, inputs))

    def on_evaluate_end(self, call_id: str, outputs: Any, exception: Failure = None) -> None:
        if (frame := _close(call_id)) is not None:
            exception = _failure(outputs, exception)
            facts = evaluations.end_evaluation(frame, outputs)
            _publish_outcome(frame, ev.EvaluateEnd, exception, **facts)
            evaluations.add_candidate(frame, facts["score"])

    def on_compile_start(self, call_id: str, instance: Any, inputs: Inputs) -> None:
        if current_scope() is None:
            enter_outermost(call_id, instance, inputs)
        if (scope := _checked_scope()) is not None:
            frame = _open(scope, "compile", call_id, instance, type(instance).__name__)
            _publish(frame, ev.CompileStart, **evaluations.start_compilation(frame, inputs))

    def on_compile_end(self, call_id: str, outputs: Any, exception: Failure = None) -> None:
        exception = _failure(outputs, exception)
        if (frame := _close(call_id)) is not None:
            found = frame.progress
            facts = {"optimizer": frame.name, "candidates": found.candidates, "best": found.best}
            _publish_outcome(frame, ev.CompileEnd, exception, **facts)
        leave_outermost(call_id, outputs, exception)

    # --- adapters: which signature and adapter the next LM call belongs to --------------------------

    def on_adapter_format_start(self, call_id: str, instance: Any, inputs: Inputs) -> None:
        # ``format`` is wrapped once per inheritance level; only the innermost names its inputs.
        scope = current_scope()
        if scope is None or (parent := running_frame(scope.run)) is None:
            return
        nested = parent.kind == "format"
        prompt = parent.prompts[-1] if nested else RenderedPrompt(instance, parent)
        frame = _add(scope, "format", call_id, instance, "format", parent)
        frame.prompts = [prompt]
        if "signature" in inputs:
            prompt.signature = inputs["signature"]

    def on_adapter_format_end(self, call_id: str, outputs: Any, exception: Failure = None) -> None:
        frame = _close(call_id)
        if frame is None or exception is not None:
            return
        prompt = frame.prompts[0]
        prompt.messages = outputs
        owner: Frame = prompt.owner
        if frame.parent is owner and prompt.signature is not None:
            owner.prompts = [prompt]

    def on_adapter_parse_start(self, call_id: str, instance: Any, inputs: Inputs) -> None:
        # An adapter may ask another model what a reply means: that call is the predictor's, too.
        if (scope := current_scope()) is not None and (
            caller := running_frame(scope.run)
        ) is not None:
            _add(scope, "parse", call_id, instance, "parse", caller)

    def on_adapter_parse_end(self, call_id: str, outputs: Any, exception: Failure = None) -> None:
        _close(call_id)


CALLBACK = CaptureCallback()


def _checked_scope() -> Scope | None:
    """The captured call that is running here. Raises ``Unwind`` if its program was left."""
    if (scope := current_scope()) is not None:
        scope.check()
    return scope


def _is_agent(module: Any) -> bool:
    """Whether a module has tools: DSPy's agents, and a program's own with an attribute ``tools``."""
    tools = getattr(module, "__dict__", {}).get("tools")
    return isinstance(module, AGENTS) or (isinstance(tools, (dict, list, tuple)) and bool(tools))


def _publish_status(moment: str, frame: Frame, value: Any) -> None:
    """Publish the status message for this moment, if the call's provider has one."""
    scope = frame.scope
    if scope.statuses is not None:
        message = scope.statuses.message(moment, frame.instance, value)
        if message is not None:
            scope.publish(ev.Status(message=message))


def running_frame(run: Run) -> Frame | None:
    """The frame of the call that is running here, seen through the adapter that parses."""
    active, direct = ACTIVE_CALL_ID.get(), DIRECT_CALL.get()
    frame = run.frames.get(active or "")
    if direct is not None and direct.inside == active and direct.call_id in run.frames:
        frame = run.frames[direct.call_id]
    while frame is not None and frame.kind == "parse":
        frame = frame.parent
    return frame


def _caller(run: Run) -> Frame | None:
    """The frame of what makes a call here."""
    frame = running_frame(run)
    while frame is not None and frame.kind == "format":
        frame = frame.parent
    return frame


def _open(scope: Scope, kind: str, call_id: str, instance: Any, name: str) -> Frame:
    parent = _caller(scope.run)
    frame = _add(scope, kind, call_id, instance, name, parent)
    if kind in ("tool", "interpreter"):
        frame.turn = frame.turn_inside = parent.turn_inside if parent is not None else 0
        return frame
    siblings = parent.children if parent is not None else scope.run.roots
    frame.turn = siblings[name]
    siblings[name] += 1
    if parent is not None and kind == "module":
        parent.turn_inside = frame.turn
    return frame


def _add(
    scope: Scope, kind: str, call_id: str, instance: Any, name: str, parent: Frame | None
) -> Frame:
    frame = Frame(kind, call_id, instance, name, parent, scope, time.monotonic())
    scope.run.frames[call_id] = frame
    return frame


def _is_reported_by_interpreter(run: Run, tool: str) -> bool:
    """Whether an interpreter has reported this call of a tool, which the model's code makes."""
    caller = run.frames.get(ACTIVE_CALL_ID.get() or "")
    return (
        caller is not None
        and caller.kind == "tool"
        and caller.name == tool
        and isinstance(caller.instance, getattr(dspy, "CodeInterpreter", ()))
    )


def _start_tool(
    scope: Scope, kind: str, call_id: str, instance: Any, name: str, arguments: Inputs
) -> Frame:
    frame = _open(scope, kind, call_id, instance, name)
    _publish(frame, ev.ToolStart, name=name, kind=kind, arguments=included("tools", arguments))
    return frame


def _publish_tool_end(frame: Frame, outputs: Any, exception: Failure) -> None:
    if exception is None:
        _publish_end(frame, ev.ToolEnd, kind=frame.kind, result=included("tools", outputs))
    else:
        _publish_error(frame, ev.ToolError, exception, kind=frame.kind)


def _publish(
    frame: Frame, kind: type[ev.Event], owner: Frame | None = None, /, **facts: Any
) -> ev.Event | None:
    """Publish an event of this call; ``owner`` counts the attempts of an LM call."""
    run: Run = frame.scope.run
    attempt = (owner or frame).attempt
    identity = frame.identity(run.run_id, attempt=attempt)
    return run.publish(kind, frame.scope, identity, frame, **facts)


def _publish_end(frame: Frame, event: type[ev.Event], **facts: Any) -> None:
    """Publish that a module or tool has ended."""
    duration = time.monotonic() - frame.started
    _publish(frame, event, name=frame.name, duration=duration, **facts)


def _publish_outcome(frame: Frame, event: type[ev.Event], exception: Failure, **facts: Any) -> None:
    """Publish the end of an evaluation or optimizer: one kind of event, however it ended."""
    if exception is not None:
        hide_callback(exception, frame.instance)
        name, message = describe(exception)
        facts |= {"error_type": name, "message": message}
    duration = time.monotonic() - frame.started
    _publish(frame, event, name=frame.about, duration=duration, **facts)


def _publish_error(
    frame: Frame, event: type[ev.Event], exception: BaseException, **facts: Any
) -> None:
    hide_callback(exception, frame.instance)
    name, message = describe(exception)
    _publish_end(frame, event, error_type=name, message=message, **facts)


def _close(call_id: str) -> Frame | None:
    """Remove and return the frame of a call that has ended; ``None`` if its run has none."""
    scope = current_scope()
    return scope.run.frames.pop(call_id, None) if scope is not None else None


def _failure(outputs: Any, exception: Failure) -> Failure:
    """What ended a call. Before DSPy 3.3 a callback is not told what is no ``Exception``."""
    under_way = sys.exc_info()[1]
    if exception is None and outputs is None and not isinstance(under_way, Exception):
        return under_way
    return exception


def _prompt_of(caller: Frame, inputs: Inputs) -> RenderedPrompt | None:
    """What was rendered for this very LM call: its messages are the adapter's, by identity."""
    messages = inputs.get("messages")
    prompts: list[RenderedPrompt] = caller.prompts
    for prompt in prompts:
        if prompt.messages is messages:
            return prompt
    # A plugin may pass the messages on as a copy; the latest rendering is then the best guess.
    return prompts[-1] if prompts and messages is not None else None


def _owner(frame: Frame, caller: Frame, prompt: RenderedPrompt) -> Frame:
    """The frame whose fields an LM call streams that an adapter makes for ``caller``.

    The LM calls of a predictor stream the predictor's fields. A call replaces an earlier one as its
    fallback, or if it asks for the same fields again. One that is made while another is under way
    streams under its own frame: each frame streams a field once.
    """
    if not isinstance(caller.instance, dspy.Predict):
        return frame
    before: list[LMCall] = [call for call in caller.lm_calls if call.owner is caller]
    if before and _extends(ADAPTER_CALLS.get(), before[-1].adapter_calls):
        before[-1].supersede("fallback")
        return caller
    if any(call.frame.call_id in call.run.frames for call in before):
        return frame
    fields = prompt.signature.output_fields if prompt.signature is not None else ()
    if any(call.counts and call.attempt.has_begun(fields) for call in before):
        before[-1].supersede("asked again")
    return caller


def _settle(frame: Frame, outputs: Any) -> None:
    """A predictor has its value: deliver what did not stream, correct what differs.

    Each of its LM calls has some of its fields, mostly all. An adapter that makes its calls in a way
    of its own may have streamed none.
    """
    settled: set[str] = set()
    for call in reversed(frame.lm_calls):
        if call.owner is frame and call.counts:
            call.attempt.settle(outputs, settled)
    signature = getattr(frame.instance, "signature", None)
    if signature is not None and not settled.issuperset(signature.output_fields):
        prompt = RenderedPrompt(None, frame, signature)
        fields = CallFields(frame.scope, frame.instance, prompt)
        identity = frame.identity(frame.scope.run.run_id, attempt=frame.attempt)
        AttemptFields(frame.scope, identity, fields).settle(outputs, settled)


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


def _arguments(inputs: Inputs) -> dict[str, Any]:
    """A call's arguments as one mapping; positional ones are keyed by their index."""
    named = inputs.get("kwargs")
    return inputs_of(inputs.get("args") or (), named) if isinstance(named, dict) else inputs
