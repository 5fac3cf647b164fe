"""The live view over time, on an emulated terminal, and in a notebook."""

from __future__ import annotations

import re
import sys
import threading
import time
from types import SimpleNamespace

import pytest
from scripted_runs import Script, chain_of_thought
from test_terminal_screen import Terminal

from streamll.core import events as ev
from streamll.sinks.terminal import TerminalSink
from streamll.terminal import live, notebook


@pytest.fixture
def watching(monkeypatch):
    """Open a view on a terminal of its own, from inside the test (see ``opened``)."""
    views = []

    def open_view(encoding: str = "utf-8") -> tuple[live.LiveView, Terminal]:
        terminal = Terminal(60, 16)
        terminal.encoding = encoding
        monkeypatch.setattr(sys, "stdout", terminal)
        monkeypatch.setattr(sys, "stderr", terminal)
        views.append(live.terminal_view(terminal, *terminal.size()))
        return views[-1], terminal

    yield open_view
    for view in views:
        view.close()


def until(condition, what: str) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, f"still waiting for {what}"
        time.sleep(0.01)


DONE = """\
● QA  openai/gpt-4o-mini
╰─ ✓ generate  1.0 s
     reasoning  Think.
     answer     Paris.
✓ done in 1.2 s · 48 tokens · first token 0.30 s
  53 tokens/s · $0.0001"""


def test_a_run_grows_and_then_stays(watching):
    view, terminal = watching()
    """X0a: live while it runs, whole afterwards."""
    events = chain_of_thought()
    view.show(events[:9])
    # In one look: the next frame may be half drawn when the test looks again.
    frame = re.compile(r"● QA  \d[\d.]* s.*▌", re.DOTALL)
    until(lambda: frame.search(terminal.emulator.text), "the first frame")
    view.show(events[9:])
    assert terminal.emulator.text == DONE  # at once, without waiting for a frame
    assert terminal.emulator.cursor_visible
    assert sys.stdout is terminal


def test_a_long_text_is_whole_in_the_scrollback(watching):
    view, terminal = watching()
    text = " ".join(f"word{number}" for number in range(500))
    events = chain_of_thought(answer=text)
    view.show(events[:-6])
    until(lambda: "more line" in terminal.emulator.text, "a frame that does not hold it all")
    assert len(terminal.emulator.lines) <= 16
    view.show(events[-6:])
    words = " ".join(terminal.emulator.text.split())
    assert text in words.replace("answer ", "")
    assert "more line" not in words


def test_runs_end_one_after_the_other_and_are_left_in_that_order(watching):
    view, terminal = watching()
    """B9: several at once, without garbling."""
    first, second = chain_of_thought("a", answer="First."), chain_of_thought("b", answer="Second.")
    view.show([*first[:9], *second[:9]])
    until(lambda: terminal.emulator.text.count("● QA") == 2, "both runs")
    view.show(second[9:])
    assert "Second." in terminal.emulator.text
    until(lambda: "First.▌" in terminal.emulator.text or "▌" in terminal.emulator.text, "the other")
    view.show(first[9:])
    text = terminal.emulator.text
    assert text.index("Second.") < text.index("First.")
    assert text.count("● QA") == text.count("✓ done") == 2


def test_frames_are_few_however_many_tokens(watching):
    view, terminal = watching()
    script = Script()
    started = time.monotonic()
    view.show(script.events)
    for index in range(20_000):
        token = ev.TokenEvent(identity=script.root, field="a", token="word ", token_index=index)
        view.show([token])
    view.show(script.end())
    seconds = time.monotonic() - started
    assert len(terminal.written) <= seconds * live.FRAMES_PER_S + 6


def test_one_terminal_has_one_view(watching):
    view, terminal = watching()
    view.show(chain_of_thought()[:5])
    assert live.terminal_view(terminal) is view
    view.close()
    assert view.is_idle


def test_closing_leaves_the_run_as_it_stands(watching):
    view, terminal = watching()
    view.show(chain_of_thought()[:9])
    view.close()
    assert "Think." in terminal.emulator.text
    assert "⊘ left after" in terminal.emulator.text
    assert terminal.emulator.cursor_visible


def test_events_outside_any_run_are_shown(watching):
    view, terminal = watching()
    view.show([ev.Status(message="Warming up…"), ev.StreamllEvent(event_type="ready")])
    assert terminal.emulator.text == "  › Warming up…\n  ◦ ready"
    assert terminal.emulator.cursor_visible


def test_a_silent_run_joined_midway_counts_as_over(watching, monkeypatch):
    monkeypatch.setattr(live, "IDLE_S", 0.0)
    view, terminal = watching()
    view.show([ev.Status(identity=ev.Identity(run_id="late"), message="hello")])
    until(lambda: view.is_idle, "the end of it")
    assert "› hello" in terminal.emulator.text


def test_a_terminal_that_hangs_up_ends_the_view(watching):
    view, terminal = watching()
    view.show(chain_of_thought()[:5])

    def gone(text):
        raise BrokenPipeError

    terminal.write = gone
    until(lambda: view._is_over, "the view to notice")
    view.show(chain_of_thought())  # nothing happens, nothing is raised
    # Only now: it waits for the frame that has noticed, which gives the streams back at its end.
    assert sys.stdout is terminal


def test_ascii_signs_on_terminals_without_unicode(watching):
    view, terminal = watching("ascii")
    view.show(chain_of_thought())
    assert terminal.emulator.text.isascii()
    assert "`- + generate" in terminal.emulator.text


# --- notebooks ------------------------------------------------------------------------------------


class Kernel:
    """What IPython offers a program in a notebook, as far as the view uses it."""

    def __init__(self) -> None:
        self.outputs: list[dict[str, str]] = []

    def install(self, monkeypatch) -> None:
        shell = SimpleNamespace(kernel=self)
        monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
        monkeypatch.setitem(sys.modules, "IPython.display", self)

    def display(self, bundle, *, raw, display_id):
        assert raw
        assert display_id
        self.outputs.append(bundle)
        return SimpleNamespace(update=lambda new, raw: bundle.update(new))


@pytest.fixture
def kernel(monkeypatch):
    kernel = Kernel()
    kernel.install(monkeypatch)
    return kernel


def test_in_a_notebook_one_output_is_updated_and_stays(kernel):
    assert notebook.in_notebook()
    view = live.notebook_view(width=60)
    events = chain_of_thought(answer="<b>Paris</b>")
    view.show(events[:9])
    until(lambda: kernel.outputs and "▌" in kernel.outputs[0]["text/plain"], "the first frame")
    view.show(events[9:])
    [output] = kernel.outputs
    assert "answer     <b>Paris</b>\n✓ done" in output["text/plain"]
    assert "&lt;b&gt;Paris&lt;/b&gt;" in output["text/html"]
    assert '<span style="color:#16a34a">✓</span>' in output["text/html"]


def test_no_notebook_is_detected_outside_one(monkeypatch):
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    assert not notebook.in_notebook()


@pytest.fixture
def two_sinks(monkeypatch):
    terminal = Terminal(60, 16)
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setattr(sys, "stderr", terminal)
    sinks = [TerminalSink("live", file=terminal, width=59, height=15) for _ in range(2)]
    yield sinks
    for sink in sinks:
        sink._view.close(id(sink))


def test_sinks_that_begin_at_the_same_time_share_a_view(monkeypatch, two_sinks):
    first, second = two_sinks
    comes_in, make, made = threading.Event(), live._terminal_view, []
    other = threading.Thread(target=second.handle_batch, args=[chain_of_thought()[:4]])

    def slowly(*arguments):  # it imports rich: time enough for another sink
        made.append(arguments)
        if len(made) == 1:
            other.start()
            comes_in.wait(0.5)
        else:
            comes_in.set()
        return make(*arguments)

    monkeypatch.setattr(live, "_terminal_view", slowly)
    first.handle_batch(chain_of_thought()[:4])
    other.join()
    assert first._view is second._view


def test_a_sink_that_has_chosen_a_view_shows_in_the_one_of_a_sink_that_was_quicker(
    monkeypatch, two_sinks
):
    first, second = two_sinks
    choose = first._current_view
    quicker = [chain_of_thought()[:4]]

    def chosen():
        view = choose()
        while quicker:
            second.handle_batch(quicker.pop())
        return view

    monkeypatch.setattr(first, "_current_view", chosen)
    first.handle_batch(chain_of_thought()[:4])
    assert first._view is second._view
