"""What is built of ``clients/js/client``: its types are the events', it is small, the viewer's copy is it."""

from __future__ import annotations

import gzip
import json
import subprocess
from pathlib import Path

import build_clients
import pytest
import write_client_types

ROOT = Path(__file__).parents[2]
SOURCES = build_clients.CLIENTS / "client" / "src"
UNKNOWN = ("region", "weights")
"""Keys of a newer writer in the golden events: kept by a reader, and in no type."""
MOST_BYTES = {"client": 8_000, "react": 2_500}
"""Of each package alone, minified and gzipped."""


def test_the_event_types_are_those_of_the_event_classes():
    written = (SOURCES / "events.ts").read_text("utf-8")
    assert written == write_client_types.page(), (
        "run: python scripts/write_client_types.py > clients/js/client/src/events.ts"
    )


@pytest.mark.parametrize("package", build_clients.packages(), ids=lambda path: path.name)
def test_a_package_is_small_and_needs_no_other(package):
    manifest = json.loads((package / "package.json").read_text("utf-8"))
    assert set(manifest.get("dependencies", {})) <= {"@streamll/client"}
    most = MOST_BYTES[package.name]
    assert len(gzip.compress(build_clients.minified(package), 9)) < most
    assert f"{most / 1000:g} kB" in (package / "README.md").read_text("utf-8")


def test_the_viewers_client_is_what_the_sources_build():
    assert build_clients.VIEWER.read_text("utf-8") == build_clients.viewer(), (
        "run: python scripts/build_clients.py viewer"
    )


USE = """
import { asCustom, startRun, type RunEvent } from "@streamll/client";

declare const event: RunEvent;
if (event.event_type === "token") event.token.length + (event.offset ?? 0);
// @ts-expect-error
if (event.event_type === "run.start") event.token;
const custom = asCustom(event)?.data?.["x"];

interface QA { program: "QA"; inputs: { question: string }; outputs: { answer: string; items: { name: string }[] } }
const run = startRun<QA>("/", { program: "QA", inputs: { question: "?" } });
// @ts-expect-error
startRun<QA>("/", { program: "QB", inputs: { question: "?" } });
// @ts-expect-error
startRun<QA>("/", { program: "QA", inputs: { query: "?" } });
const name: string | undefined = run.value("items")?.[0]?.name;
const answer: Promise<string> = run.result().then((result) => result.values.answer);
// @ts-expect-error
const wrong: Promise<number> = run.result().then((result) => result.values.answer);
export { answer, custom, name, wrong };
"""
CONFIG = {
    "extends": str(build_clients.CLIENTS / "tsconfig.base.json"),
    "compilerOptions": {"noEmit": True, "emitDeclarationOnly": False, "declaration": False},
    "files": ["golden.ts", "use.ts"],
}


def test_every_golden_event_and_a_typed_program_pass_the_compiler(tmp_path):
    """With the check for keys that a type does not have."""
    lines = (
        (ROOT / "tests" / "golden" / "events-v1.jsonl").read_text("utf-8").rstrip("\n").split("\n")
    )
    written = ['import type { CustomEvent, RunEvent } from "@streamll/client";']
    for number, line in enumerate(lines):
        event = {key: value for key, value in json.loads(line).items() if key not in UNKNOWN}
        known = event["event_type"] in write_client_types.ev.KINDS
        if not known:  # a newer kind has its own keys
            event = {key: event[key] for key in event if key not in {"frame", "image"}}
        kind = "RunEvent" if known else "CustomEvent"
        written.append(f"export const e{number}: {kind} = {json.dumps(event)};")
    (tmp_path / "golden.ts").write_text("\n".join(written), "utf-8")
    (tmp_path / "use.ts").write_text(USE, "utf-8")
    (tmp_path / "tsconfig.json").write_text(json.dumps(CONFIG), "utf-8")
    tsc = [build_clients.tools() / "tsc", "-p", tmp_path]
    done = subprocess.run(tsc, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
