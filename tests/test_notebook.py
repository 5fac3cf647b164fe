"""E8: the streaming notebook, cell by cell, with its one import changed.

The notebook is kept as its author wrote it (``notebook/streaming.json``); what is printed is
compared with the formats it prints.
"""

from __future__ import annotations

import ast
import asyncio
import json
import re
from pathlib import Path

import pytest
from outcomes import script_anew

NOTEBOOK = Path(__file__).parent / "notebook" / "streaming.json"
LIMIT = 60
RULE = "=" * 60
SECONDS = r"\d+\.\d\ds"


def cells() -> list[str]:
    notebook = json.loads(NOTEBOOK.read_text("utf-8"))
    return ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]


AS_WRITTEN = {"lionpride": "streamll"}
ON_ANTHROPIC = AS_WRITTEN | {'provider="openai"': 'provider="anthropic"'}
ON_RESPONSES = AS_WRITTEN | {'provider="openai"': 'provider="openai", endpoint="responses"'}


@pytest.fixture
def environment(practice, monkeypatch):
    """Base URLs and keys where the providers' own clients look for them."""
    monkeypatch.setenv("OPENAI_BASE_URL", practice.openai_url)
    monkeypatch.setenv("ANTHROPIC_BASE_URL", practice.anthropic_url)
    monkeypatch.setenv("OPENAI_API_KEY", "practice")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "practice")
    return practice


def run(changes: dict[str, str], capsys) -> tuple[list[str], dict]:
    """What each cell printed, and the names it left behind."""
    namespace: dict = {"__name__": "__main__"}
    printed = []

    async def all_cells():
        for number, cell in enumerate(cells()):
            for old, new in changes.items():
                cell = cell.replace(old, new)
            code = compile(cell, f"cell {number}", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            waiting = eval(code, namespace)
            if waiting is not None:
                await waiting
            printed.append(capsys.readouterr().out)

    asyncio.run(asyncio.wait_for(all_cells(), LIMIT))
    return printed, namespace


@pytest.mark.parametrize(
    ("changes", "paths"),
    [
        (AS_WRITTEN, {"/v1/chat/completions", "/v1/messages"}),
        (ON_ANTHROPIC, {"/v1/messages"}),
        (ON_RESPONSES, {"/v1/responses", "/v1/messages"}),
    ],
    ids=["as written", "all on anthropic", "openai over responses"],
)
def test_every_cell_runs_and_prints_what_the_notebook_shows(changes, paths, environment, capsys):
    """E1–E8."""
    printed, names = run(changes, capsys)
    assert {request.path for request in environment.requests} == paths
    assert all(request.status == 200 for request in environment.requests)
    setup, basic, compare, progress, context, chat, parallel, buffered, safe = printed
    assert setup == ""

    # 1. basic streaming
    text = re.fullmatch(
        r"Assistant: (.+)\n\n✅ Received (\d+) chunks \((\d+) chars\)\n", basic, re.DOTALL
    )
    assert text
    assert int(text[3]) == len(text[1])
    assert 1 < int(text[2]) <= len(text[1])

    # 2. streaming beside not streaming
    assert compare.startswith(f"{RULE}\nNON-STREAMING (wait for complete response)\n{RULE}\n")
    assert re.search(rf"⏱️  Waited {SECONDS}, then got everything at once:\n\n.+\.\.\.\n", compare)
    assert f"{RULE}\nSTREAMING (tokens appear in real-time)\n{RULE}\n" in compare
    assert re.search(rf"⚡ First token after {SECONDS}\n⏱️  Total time: {SECONDS}\n", compare)
    assert re.search(r"✨ User perceived \d+\.\dx faster!\n$", compare)

    # 3. progress
    assert re.match(r"Generating response\.+\n\n✅ Received \d+ chunks \(~\d+ words\)\n", progress)
    body = progress.split(f"Response:\n{RULE}\n")[1].removesuffix(f"\n{RULE}\n")
    assert "practice model" in body

    # 4. conversation context
    assert context.startswith("User: Tell me about Python decorators\n\nAssistant: This is")
    assert "User: Can you show me a practical example?\n\nAssistant: This is" in context
    assert context.endswith("✅ Conversation has 3 messages\n")
    assert len(names["branch"].order) == 3

    # 5. the chat
    assert chat.count("👤 User: ") == 3
    assert chat.count("🤖 Assistant: ") == 3
    statistics = rf"📊 Stats: \d+ chunks \| First token: {SECONDS} \| Total: {SECONDS}\n"
    assert len(re.findall(statistics, chat)) == 3
    history = chat.split("CONVERSATION HISTORY\n")[1]
    assert history.count("👤 user: ") == 3
    assert history.count("🤖 assistant: ") == 3
    assert "👤 user: What are common mistakes to avoid?\n" in history
    assert re.search(r"🤖 assistant: .{100}\.\.\.\n", history)

    # 6. two models at once
    for label in ("GPT", "Claude"):
        assert f"\n[{label}] Starting...\n" in parallel
        assert parallel.count(f"[{label}] ") == 1 + 5 + 1  # the first five chunks are shown
        assert re.search(rf"\n\[{label}\] Complete \(\d+ chunks, {SECONDS}\)\n", parallel)
        assert re.search(rf"🤖 {label} Response \(\d+ chars\):\n-{{60}}\nThis is", parallel)

    # 7. buffered
    assert buffered.startswith("Buffering every 10 chunks...\n\nResponse: This is")
    assert re.search(r"✅ Buffered \d+ chunks \(flushed every 10 chunks\)\n$", buffered)

    # 8. errors
    assert "✅ Streaming completed successfully\n" in safe
    assert safe.endswith(f"Partial response length: {len(names['result'])} chars\n")


@pytest.mark.parametrize("wire", ["openai", "anthropic"])
def test_the_notebooks_safe_stream_keeps_the_partial_text(wire, environment, capsys):
    """E8: a connection lost after five chunks; an idle provider."""
    from streamll import StreamConfig
    from streamll.services import iModel
    from streamll.testing import Fault, Reply

    namespace: dict = {}
    function = ast.parse(cells()[8].replace("lionpride", "streamll")).body[0]
    assert isinstance(function, ast.AsyncFunctionDef)
    namespace["iModel"] = iModel
    exec(compile(ast.Module([function], []), "cell 8", "exec"), namespace)
    text = "one two three four five six seven eight"
    environment.script(Reply(text, fault=Fault(disconnect_after=5)))
    model = iModel(wire, "a-model", config=StreamConfig(idle_timeout=LIMIT))
    messages = [{"role": "user", "content": "Explain the concept"}]

    result = asyncio.run(asyncio.wait_for(namespace["safe_stream"](model, messages), LIMIT))
    printed = capsys.readouterr().out
    assert result == "one two three four five"
    assert "❌ Streaming error: TransportError: " in printed
    assert "Received 5 chunks before error\n" in printed
    assert "Partial response length: 23 chars\n" in printed

    for idle in (2, 10):  # within a short time a busy machine may not come to the five chunks
        script_anew(environment, Reply(text, fault=Fault(stall_after=5)))
        model = iModel(wire, "a-model", config=StreamConfig(idle_timeout=idle))
        result = asyncio.run(asyncio.wait_for(namespace["safe_stream"](model, messages), LIMIT))
        printed = capsys.readouterr().out
        if result == "one two three four five":
            break
    assert result == "one two three four five"
    assert "⏱️  Streaming timeout after 5 chunks\n" in printed
