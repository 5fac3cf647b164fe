"""Python processes that need not import DSPy: forked from one that has, which all workers
of a test run share. It ends with the last of them.

``Popen`` and ``run`` are those of ``subprocess``, for ``[sys.executable, "-m", …]``, ``"-c"`` and
scripts. What a process costs is then what it does; a cold one takes a second for its imports first.
A test of how a process begins starts a cold one: of what is imported, of what the interpreter or a
module reads from the environment at its start, of a DSPy that is changed before streamll is imported.
With ``THOROUGH=1``, under coverage, and where processes cannot be forked so, all are cold.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import socket
import subprocess
import sys
import threading
import time
import zlib
from pathlib import Path
from typing import Any

from profiles import THOROUGH

WITH_STREAMLL = ("dspy", "uvicorn", "redis.asyncio", *(f"streamll.{name}" for name in (
    "testing", "consumer", "sinks", "cli.main", "cli.serve", "serve.app", "capture.stream",
    "capture.tap.waits", "capture.reply.lm_call", "brokers.redis.sink", "brokers.redis.source",
    "brokers.sqlite.sink", "brokers.sqlite.source",
)))  # fmt: skip
WITH_DSPY = ("dspy",)
"""For a process that changes DSPy before streamll is imported."""

IS_COLD = (
    THOROUGH
    or not hasattr(os, "pidfd_open")
    or any(name.startswith("COVERAGE_PROCESS_") for name in os.environ)
)
ENVIRONMENT = dict(os.environ)
SETTABLE = {"PYTHONPATH", "PYTHONUNBUFFERED", "PYTHONIOENCODING", "PYTHONWARNINGS"}
"""What a process that already runs can still obey of the variables that Python reads at its start."""


@functools.cache
def _server(modules: tuple[str, ...]) -> tuple[socket.socket, threading.Lock]:
    """A connection to the server of these modules, which whoever needs it first starts."""
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID", os.getpid())
    address = f"\0streamll-warm-{run}-{zlib.crc32(' '.join(modules).encode())}"
    ours = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    while True:
        try:
            ours.connect(address)
            break
        except ConnectionRefusedError:
            _start_server(address, modules)
    atexit.register(ours.close)
    return ours, threading.Lock()


def _start_server(address: str, modules: tuple[str, ...]) -> None:
    script = Path(__file__).with_name("warm_server.py")
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening:
        try:
            listening.bind(address)
        except OSError:  # somebody else is about to listen
            time.sleep(0.01)
            return
        listening.listen(128)
        process = subprocess.Popen(
            [sys.executable, str(script), str(listening.fileno()), *modules],
            stdin=subprocess.DEVNULL, env=ENVIRONMENT, pass_fds=[listening.fileno()],
            start_new_session=True,
        )  # fmt: skip
    atexit.register(process.wait)  # until the last worker has closed its connection


def _arguments(command: list[Any], env: dict[str, str]) -> list[str]:
    """Without the interpreter. Refuses what only a process that is started anew can do."""
    python, *arguments = map(os.fspath, command)
    if arguments[0] == "-u":
        del arguments[0]
        env["PYTHONUNBUFFERED"] = "1"
    if python != sys.executable or (arguments[0][0] == "-" and arguments[0] not in {"-m", "-c"}):
        raise ValueError(f"{command[:2]} has to be a cold process: use subprocess")
    for name in {n for n in {*env, *ENVIRONMENT} if n.startswith("PYTHON")} - SETTABLE:
        if env.get(name) != ENVIRONMENT.get(name):
            raise ValueError(f"{name} is read at the start of a cold process: use subprocess")
    return arguments


class WarmPopen(subprocess.Popen):
    """``subprocess.Popen``, but for who starts the process and who waits for it: the server."""

    def __init__(
        self, args: list[Any], *, modules: tuple[str, ...] = WITH_STREAMLL,
        start_new_session: bool = False, **options: Any,
    ) -> None:  # fmt: skip
        self._modules, self._new_session = modules, start_new_session
        super().__init__(args, **options)

    def _execute_child(  # type: ignore[override]
        self, args, executable, preexec_fn, close_fds, pass_fds, cwd, env, startupinfo,
        creationflags, shell, p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite, *_,
    ) -> None:  # fmt: skip
        if executable or preexec_fn or pass_fds or shell:
            raise ValueError("this has to be a cold process: use subprocess")
        env = dict(os.environ if env is None else env)
        request = {
            "arguments": _arguments(args, env),
            "cwd": os.fspath(cwd or Path.cwd()),
            "env": env,
            "start_new_session": self._new_session,
        }
        self._answers, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        streams = [p2cread, c2pwrite, errwrite]
        files = [number if file == -1 else file for number, file in enumerate(streams)]
        control, lock = _server(self._modules)
        with theirs, lock:
            message = [json.dumps(request).encode()]
            socket.send_fds(control, message, [*files, theirs.fileno()])
        self._close_pipe_fds(p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite)
        self.pid = self._told()
        self._child_created = True

    def _told(self, *flags: int) -> int:
        answer = self._answers.recv(32, *flags)
        if not answer:
            raise ConnectionResetError("the server of warm processes has ended")
        return int(answer)

    def _try_wait(self, wait_flags: int) -> tuple[int, int]:
        try:
            status = self._told(*[socket.MSG_DONTWAIT] * bool(wait_flags & os.WNOHANG))
        except BlockingIOError:
            return 0, 0
        self._answers.close()
        return self.pid, status

    def _internal_poll(self, _deadstate: int | None = None, **_: Any) -> int | None:
        if self.returncode is None and self._waitpid_lock.acquire(blocking=False):
            try:
                pid, status = self._try_wait(os.WNOHANG)
                if self.returncode is None and pid:
                    self._handle_exitstatus(status)
            except OSError:  # it was forgotten, and the socket with it
                self.returncode = _deadstate
            finally:
                self._waitpid_lock.release()
        return self.returncode


class ColdPopen(subprocess.Popen):
    def __init__(self, args: list[Any], *, modules: object = None, **options: Any) -> None:
        super().__init__(args, **options)


Popen = ColdPopen if IS_COLD else WarmPopen


def run(
    args: list[Any], *,
    input: str | bytes | None = None,  # noqa: A002 - as subprocess.run has it
    capture_output: bool = False, timeout: float | None = None, check: bool = False, **options: Any,
) -> subprocess.CompletedProcess:  # fmt: skip
    """``subprocess.run``"""
    if input is not None:
        options["stdin"] = subprocess.PIPE
    if capture_output:
        options["stdout"] = options["stderr"] = subprocess.PIPE
    with Popen(args, **options) as process:
        try:
            out, err = process.communicate(input, timeout=timeout)
        except BaseException:
            process.kill()
            raise
    done = subprocess.CompletedProcess(args, process.returncode, out, err)
    if check:
        done.check_returncode()
    return done
