"""X5, X0a: typed fields as drawn on a terminal: tables that fill, trees that grow."""

from __future__ import annotations

import json

import pydantic
from scripted_runs import Script, live, model_of, whole

from streamll.core import events as ev
from streamll.core.parsing.values.json import JSONValueReader
from streamll.terminal import text as tx
from streamll.terminal.lines import LineView
from streamll.terminal.output import Output
from streamll.terminal.values import drawn


class Row(pydantic.BaseModel):
    name: str
    price: float


def extract(text: str, *, final: object = None) -> Script:
    """A run whose field ``rows`` has come as far as ``text``."""
    script = Script()
    predict = script.module("extract", script.root)
    script.ask(predict)
    script.say(ev.FieldStart, predict, field="rows")
    reader = JSONValueReader()
    for character in text:
        script.say(ev.TokenEvent, predict, field="rows", token=character)
        for change in reader.feed(character):
            script.say(ev.FieldPartial, predict, field="rows", **change._asdict())
    if final is not None:
        script.say(ev.FieldEnd, predict, field="rows", length=len(text))
        script.say(ev.FieldPartial, predict, field="rows", value=final, state="complete")
        script.done(predict)
    return script


def test_a_list_of_objects_is_a_table_that_fills():
    shown = live([extract('[{"name": "Ada", "price": 1.5}, {"name": "Al').events])
    assert "rows  name  price" in shown[2]
    assert "────  ─────" in shown[3]
    assert "Ada     1.5" in shown[4]
    assert "Al        ·" in shown[5]
    assert shown[5].endswith("▌")


def test_the_returned_value_is_what_stays():
    text = json.dumps([{"name": "Ada", "price": 1}])
    shown = whole(extract(text, final=[Row(name="Ada", price=1.0)]).end())
    assert "Ada     1.0" in shown
    assert "[{" not in shown


def test_other_structured_values_are_trees():
    shown = live([extract('{"title": "T", "tags": ["a", "b"], "by": {"name": "Al').events])
    lines = [line.replace("rows", "").strip(" ▌│") for line in shown[2:]]
    assert lines == ["title: T", "tags: a, b", "by:", "name: Al"]


def test_list_items_follow_a_dash():
    value = [{"a": 1, "deep": {"b": [{"c": 2}]}}, "text", []]
    assert drawn(value, 40) == ["- a: 1", "  deep:", "    b:", "      - c: 2", "- text", "- []"]


def test_a_table_fits_its_width_and_is_harmless():
    rows = [{"name": "\x1b[2Jx" * 20, "note": "字" * 60, "n": 1}, {"n": 2}]
    for width in (20, 40, 100):
        lines = drawn(rows, width)
        assert all(tx.cells(line) <= width for line in lines)
        assert not any("\x1b" in line for line in lines)


def test_only_the_end_of_a_long_growing_list_is_drawn():
    text = json.dumps([{"n": number} for number in range(1_000)])
    content = model_of(extract(text[:-1]).events).root.items[0].items[0].content
    assert content.lines(40)[0] == "… 800 earlier elements"
    assert len(content.lines(40)) == 203
    assert len(model_of(extract(text).events).root.items[0].items[0].content.lines(40)) == 1_002


def test_a_superseded_table_is_gone():
    script = extract('[{"name": "Ada"')
    predict = script.events[-1].identity
    script.say(ev.LMSuperseded, predict, reason="LMTimeoutError")
    assert "Ada" not in "\n".join(live([script.events]))


def test_native_tool_calls_are_shown_once():
    script = Script()
    predict = script.module("react", script.root)
    script.say(ev.FieldStart, predict, field="calls")
    script.say(ev.FieldPartial, predict, field="calls", value={}, state="partial")
    for place, value in (
        (("tool_calls",), []),
        (("tool_calls", 0), {"name": "search"}),
        (("tool_calls", 0, "args"), {"query": "Par"}),
    ):
        script.say(ev.FieldPartial, predict, field="calls", value=value, pointer=place)
    script.say(ev.ToolCallDelta, predict, index=0, name="search")
    shown = "\n".join(live([script.events]))
    assert shown.count("search") == 1
    assert "query: Par" in shown


def test_code_that_runs_is_a_step_with_its_outcome():
    script = Script()
    step = script._call("PythonInterpreter", script.root)
    ran = {"name": "PythonInterpreter", "kind": "interpreter"}
    script.say(ev.ToolStart, step, **ran, arguments={"code": "1 / 0"})
    script.say(
        ev.ToolError,
        step,
        **ran,
        duration=0.2,
        error_type="ZeroDivisionError",
        message="",
    )
    shown = whole(script.end())
    assert "✗ PythonInterpreter(1 / 0)" in shown
    assert "ZeroDivisionError" in shown


def test_thinking_is_dimmed_and_a_refusal_stands_out():
    script = Script()
    predict = script.module("extract", script.root)
    script.say(ev.Thinking, predict, text="Hm.")
    script.say(ev.Refusal, predict, text="I will not.")
    script.events.append(
        ev.ReplyPart(seq=9, identity=predict, kind="image", media_type="image/png", size=10)
    )
    blocks = model_of(script.events).root.items[0].items
    assert [(block.label, block.style) for block in blocks[:2]] == [
        ("thinking", "thinking"),
        ("refusal", "warning"),
    ]
    assert "image image/png 10 bytes" in "\n".join(live([script.events]))


def test_plain_lines_show_each_element_once(tmp_path):
    with (tmp_path / "log").open("w+") as file:
        view = LineView(Output(file))
        script = extract('[{"name": "Ada"}, {"name": "Alan"}]', final=[{"name": "Ada"}])
        view.show([event for event in script.end() if event.event_type != "token"])
        file.seek(0)
        lines = [line.strip() for line in file if line.startswith("[ITEM]")]
    assert lines == ['[ITEM] rows[0]: {"name": "Ada"}', '[ITEM] rows[1]: {"name": "Alan"}']
