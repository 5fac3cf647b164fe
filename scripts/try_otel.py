"""Tries the recipes of docs/opentelemetry.md with the real packages: ``try_otel.py [NAME …]``.

``mlflow`` and ``phoenix`` are installed into ``.cache/otel/NAME`` and started on 127.0.0.1 in a folder
of their own. The recipe is run as it stands on the page, a program under it, and the backend's own
client reads back what has become of it: the tree and the kinds of its spans, texts, model, session, and
that the tokens are counted once. Of ``langfuse`` only the package can be had, not the server (which
needs PostgreSQL, ClickHouse and Redis): its own exporter and the recipe send to the same receiver, and
have to agree on address, keys, version and the session's name.

Without a name all three are tried. Each takes a minute or two, the first time more: they are large.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import httpx

ROOT = Path(__file__).parent.parent
HOME = ROOT / ".cache" / "otel"
READERS = Path(__file__).parent / "otel"
PAGE = ROOT / "docs" / "opentelemetry.md"
STARTS_WITHIN_S = 300.0
READABLE_WITHIN_S = 120.0
QUESTION, PRICE = "What does a pencil cost?", "7.90"
QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PHOENIX_TELEMETRY_ENABLED": "false",
    "PHOENIX_ALLOW_EXTERNAL_RESOURCES": "false",
}


class Backend(NamedTuple):
    """``kinds`` are what it calls the spans, by how their names begin."""

    package: str
    health: str
    kinds: Mapping[str, str]


STEPS = ("invoke_workflow", "react", "extract", "extract.predict")
BACKENDS = {
    "mlflow": Backend(
        "mlflow>=3.6",
        "/health",
        {"invoke_agent": "AGENT", "chat": "CHAT_MODEL", "execute_tool": "TOOL"}
        | dict.fromkeys(STEPS, "CHAIN"),
    ),
    "phoenix": Backend(
        "arize-phoenix>=15.10",
        "/healthz",
        {"invoke_agent": "AGENT", "chat": "LLM", "execute_tool": "TOOL"}
        | dict.fromkeys(STEPS, "CHAIN"),
    ),
}
NAMES = (*BACKENDS, "langfuse")
KEYS = ("pk-lf-PUBLIC", "sk-lf-SECRET")
"""Of the recipe."""


def price(item: str) -> str:
    """The price of an item."""
    return PRICE


def install(name: str, package: str) -> tuple[Path, str]:
    """The folder of an environment with this package, and the version that it has."""
    folder = HOME / name
    python = str(folder / "bin" / "python")
    uv = [sys.executable, "-m", "uv", "--quiet"]
    if not Path(python).exists():
        subprocess.run([*uv, "venv", "--python", sys.executable, str(folder)], check=True)
    subprocess.run([*uv, "pip", "install", "--upgrade", "--python", python, package], check=True)
    what = f"from importlib.metadata import version; print(version({package.partition('>')[0]!r}))"
    return folder, run_in(folder, "-c", what).strip()


def run_in(folder: Path, *command: str | Path) -> str:
    """What this says on its standard output."""
    python = folder / "bin" / "python"
    done = subprocess.run(
        [python, *command], check=True, stdout=subprocess.PIPE, text=True, env=environment()
    )
    return done.stdout


def environment(**more: str) -> dict[str, str]:
    """Without this environment's packages, telemetry and addresses."""
    unwanted = ("PYTHONPATH", "MLFLOW_", "PHOENIX_", "LANGFUSE_", "OTEL_")
    kept = {name: text for name, text in os.environ.items() if not name.startswith(unwanted)}
    return {**kept, **QUIET, **more}


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
        return port


@contextlib.contextmanager
def started(name: str, folder: Path) -> Iterator[str]:
    """The address of a running server."""
    port, data = free_port(), tempfile.mkdtemp(prefix=f"streamll-{name}-")
    program = str(folder / "bin" / name)
    if name == "mlflow":
        command = [program, "server", "--backend-store-uri", "sqlite:///runs.db"]
        command += ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
        own = {}
    else:
        command = [program, "serve"]
        own = {"PHOENIX_HOST": "127.0.0.1", "PHOENIX_PORT": str(port)}
        own |= {"PHOENIX_GRPC_PORT": str(free_port()), "PHOENIX_WORKING_DIR": data}
    path = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
    with (Path(data) / "log").open("w+b") as log:
        process = subprocess.Popen(
            command, cwd=data, env=environment(PATH=path, **own), stdout=log, stderr=log
        )
        try:
            url = f"http://127.0.0.1:{port}"
            wait_for(url + BACKENDS[name].health, process, Path(log.name))
            yield url
        finally:
            process.terminate()
            process.wait()
    shutil.rmtree(data, ignore_errors=True)


def wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + STARTS_WITHIN_S
    while process.poll() is None and time.monotonic() < until:
        try:
            if httpx.get(url, timeout=10, trust_env=False).is_success:
                return
        except httpx.TransportError:
            time.sleep(0.5)
    raise SystemExit(f"it does not start:\n{log.read_text('utf-8')}")


def follow(name: str, url: str) -> Any:
    """Run the page's recipe with this address, and an agent under it; the run's last event."""
    import dspy

    import streamll
    from streamll.configuration import configuration
    from streamll.sinks import BaseSink, MemorySink
    from streamll.testing import PracticeServer

    recipe = rf"^<!-- recipe: {name} -->\n```py\n(.*?)^```$"
    [code] = re.findall(recipe, PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    namespace: dict[str, Any] = {}
    at_url = compile(re.sub(r"http://localhost:\d+", url, code), name, "exec")
    exec(at_url, namespace)  # noqa: S102 - it is the page's own
    kept = MemorySink()
    program = streamll.instrument(
        dspy.ReAct("question -> answer", tools=[price]), stream_fields=["*"]
    )
    streamll.configure(sinks=[*configuration.sinks, kept])
    streamll.set_context(conversation_id="c-17")
    with PracticeServer() as practice:
        lm = practice.lm("anthropic")
        with dspy.context(lm=lm, adapter=dspy.ChatAdapter()):
            program(question=QUESTION)
    for sink in configuration.sinks:
        if isinstance(sink, BaseSink):
            sink.stop()
    namespace["tracers"].shutdown()
    streamll.configure(sinks=[])
    return kept.events[-1]


def differences(backend: Backend, found: Mapping[str, Any], end: Any) -> Iterator[str]:
    """What the backend has made of the run, where it is not what it should have."""
    if found["session"] != "c-17":
        yield f"the session is {found['session']!r}"
    if found["tokens"] != [end.prompt_tokens, end.completion_tokens]:
        yield f"{found['tokens']} tokens, not {[end.prompt_tokens, end.completion_tokens]}"
    seen = {span["name"].split()[0] for span in found["spans"]}
    if seen != set(backend.kinds):
        yield f"spans {sorted(seen)}"
    for span in found["spans"]:
        name = span["name"].split()[0]
        if span["kind"] != backend.kinds.get(name):
            yield f"{span['name']} is a {span['kind']}"
        if name == "chat" and span["model"] != "practice-model":
            yield f"{span['name']} is by {span['model']}"
        asked, said = ("pencil", PRICE) if "price" in span["name"] else ("pencil", "")
        if "finish" not in span["name"] and asked not in span["input"]:
            yield f"{span['name']} was given {span['input'][:200]!r}"
        if not span["output"] or said not in span["output"]:
            yield f"{span['name']} has said {span['output'][:200]!r}"


def try_backend(name: str) -> list[str]:
    backend = BACKENDS[name]
    folder, version = install(name, backend.package)
    print(f"{name} {version}", flush=True)
    with started(name, folder) as url:
        end = follow(name, url)
        until = time.monotonic() + READABLE_WITHIN_S
        while True:  # a server's first request may take longer than an exporter waits
            try:
                found = json.loads(run_in(folder, READERS / f"read_{name}.py", url))
                told = list(differences(backend, found, end))
            except subprocess.CalledProcessError:
                told = ["the run is not there"]
            if not told or time.monotonic() > until:
                return told


# --- Langfuse -----------------------------------------------------------------------------------


@contextlib.contextmanager
def receiver() -> Iterator[tuple[str, list[tuple[str, Mapping[str, str], bytes]]]]:
    """An address, and what is posted to it: path, headers, body."""
    posted: list[tuple[str, Mapping[str, str], bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            posted.append((self.path, {k.lower(): v for k, v in self.headers.items()}, body))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", posted
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def session_names(body: bytes) -> set[str]:
    """The attributes that have the session's name."""
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    return {
        attribute.key
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
        for attribute in span.attributes
        if attribute.value.string_value == "c-17"
    }


def try_langfuse() -> list[str]:
    folder, version = install("langfuse", "langfuse>=4")
    print(f"langfuse {version}, the package alone", flush=True)
    with receiver() as (url, posted):
        run_in(folder, READERS / "send_langfuse.py", url, *KEYS)
        theirs, posted[:] = posted[-1], []
        follow("langfuse", url)
        ours = posted[-1]
    told = []
    if ours[0] != theirs[0]:
        told.append(f"{ours[0]}, not {theirs[0]}")
    told += [
        f"{header}: {ours[1].get(header)}, not {theirs[1].get(header)}"
        for header in ("authorization", "content-type", "x-langfuse-ingestion-version")
        if ours[1].get(header) != theirs[1].get(header)
    ]
    if not session_names(theirs[2]) <= session_names(ours[2]):
        told.append(f"a session is named by {session_names(theirs[2])}")
    return told


def main(names: list[str]) -> int:
    if unknown := set(names) - set(NAMES):
        print(f"there is no {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
        return 2
    failed = False
    for name in names or NAMES:
        told = try_langfuse() if name == "langfuse" else try_backend(name)
        print("\n".join(f"  {each}" for each in told) or "  as it should be", flush=True)
        failed |= bool(told)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
