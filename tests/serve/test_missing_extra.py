"""Without the extra ``serve``: which command installs it, and what works all the same."""

from __future__ import annotations

import sys

import pytest
import warm

WITHOUT = "import sys; sys.modules['starlette'] = sys.modules['uvicorn'] = None\n"
INSTALL = "in a checkout of streamll: pip install '.[serve]'"


def run(code):
    command = [sys.executable, "-c", WITHOUT + code]
    return warm.run(command, modules=warm.WITH_DSPY, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    "use",
    [
        "import streamll; streamll.sse_response",
        "import streamll; streamll.websocket_stream",
        "from streamll.serve import create_app",
        "import streamll; streamll.watch(web=True)",
    ],
)
def test_it_is_named(use):
    *_, last = run(use).stderr.splitlines()
    assert last.startswith("streamll.core.errors.ConfigurationError: ")
    assert last.endswith(INSTALL)


def test_a_report_needs_none_and_the_viewer_says_it(tmp_path):
    events = tmp_path / "run.jsonl"
    events.write_text(
        '{"v":1,"event_type":"run.start","run_id":"r","seq":0,"timestamp":1.0,"program":"p"}\n'
    )
    call = "from streamll.cli.main import main; sys.argv = ['streamll', {0!r}, {1!r}{2}]; sys.exit(main())"
    answer = run(call.format("report", str(events), ""))
    assert answer.stdout.strip() == str(tmp_path / "run.html"), answer.stderr
    answer = run(call.format("replay", str(events), ", '--web'"))
    assert answer.returncode != 0
    assert answer.stderr.strip().endswith(INSTALL)
