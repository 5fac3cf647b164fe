"""Imports modules, then forks a process for each request: ``python warm_server.py FD MODULE …``.

The requests of ``warm.Popen`` come over connections to the Unix socket ``FD``; when the last of them is
closed, this process ends. Between its imports and a fork this
process does nothing else: it has one thread, no event loop, and takes no signal from the terminal.
A child leaves the loop, takes the place, the environment and the files of its request, and then runs
as a Python that was started for it would, but for the end of modules that it has found there.
"""

from __future__ import annotations

import atexit
import builtins
import contextlib
import gc
import importlib
import io
import json
import os
import runpy
import selectors
import shutil
import signal
import socket
import sys
import tempfile
import threading
import types
import warnings
from pathlib import Path

LONGEST_REQUEST = 1 << 20


def serve(listening: socket.socket) -> tuple[dict, list[int]] | None:
    """Returns in every child, with its request and its files; and once nobody is connected any more."""
    watched, connections = selectors.DefaultSelector(), 0
    watched.register(listening, selectors.EVENT_READ)
    while True:
        for key, _ in watched.select():
            if key.data is not None:
                watched.unregister(key.fd)
                report_end(key.fd, *key.data)
            elif key.fileobj is listening:
                watched.register(listening.accept()[0], selectors.EVENT_READ)
                connections += 1
            elif (request := receive(key.fileobj)) is None:
                watched.unregister(key.fileobj)
                key.fileobj.close()
                connections -= 1
                if not connections and not watched.select(0):
                    return None
            else:
                given, files = request
                pid = os.fork()
                if pid == 0:
                    forget(watched)
                    return given, files
                *taken, answers = files
                for file in taken:
                    os.close(file)
                asker = socket.socket(fileno=answers)
                asker.send(b"%d" % pid)
                watched.register(os.pidfd_open(pid), selectors.EVENT_READ, (pid, asker))


def receive(connection: socket.socket) -> tuple[dict, list[int]] | None:
    """A worker's next request; ``None`` when it has ended."""
    with contextlib.suppress(ConnectionError):
        request, files, *_ = socket.recv_fds(connection, LONGEST_REQUEST, 4)
        if request:
            return json.loads(request), files
    return None


def report_end(pidfd: int, pid: int, asker: socket.socket) -> None:
    os.close(pidfd)
    _, status = os.waitpid(pid, 0)
    with contextlib.suppress(OSError), asker:  # who may have lost interest
        asker.send(b"%d" % status)


def forget(watched: selectors.BaseSelector) -> None:
    """What is open for others."""
    for key in list(watched.get_map().values()):
        if key.data is None:
            key.fileobj.close()
        else:
            os.close(key.fd)
            key.data[1].close()
    watched.close()


def take_place(request: dict, files: list[int]) -> None:
    *streams, answers = files
    os.close(answers)
    for number, file in enumerate(streams):
        os.dup2(file, number)
        os.close(file)
    if request["start_new_session"]:
        os.setsid()
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    signal.signal(signal.SIGINT, signal.default_int_handler)
    open_streams()
    searched = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[1:1] = [each for each in searched if each and each not in sys.path]
    importlib.invalidate_caches()
    if action := os.environ.get("PYTHONWARNINGS"):
        warnings.simplefilter(action)  # type: ignore[arg-type]


def open_streams() -> None:
    """As the interpreter does at its start; those that are there know of other files."""
    encoding, _, errors = os.environ.get("PYTHONIOENCODING", "").partition(":")
    encoding, errors = encoding or sys.stdout.encoding, errors or sys.stdout.errors
    unbuffered = bool(os.environ.get("PYTHONUNBUFFERED"))

    def written(number: int, errors: str, *, by_line: bool) -> io.TextIOWrapper:
        raw = open(number, "wb", buffering=0 if unbuffered else -1, closefd=False)  # noqa: SIM115
        return io.TextIOWrapper(
            raw, encoding, errors, line_buffering=by_line, write_through=unbuffered
        )

    sys.stdin = sys.__stdin__ = open(0, encoding=encoding, errors=errors, closefd=False)  # noqa: SIM115
    sys.stdout = sys.__stdout__ = written(1, errors, by_line=os.isatty(1))
    sys.stderr = sys.__stderr__ = written(2, "backslashreplace", by_line=True)


def run(how: str, *arguments: str) -> object:
    """What is returned keeps the program's names until the interpreter ends."""
    if how == "-c":
        code, *arguments = arguments
        sys.path[0], sys.argv = "", ["-c", *arguments]
        main = sys.modules["__main__"] = types.ModuleType("__main__")
        vars(main)["__builtins__"] = builtins
        exec(compile(code, "<string>", "exec"), vars(main))
        return main
    if how == "-m":
        sys.path[0], sys.argv = str(Path.cwd()), list(arguments)
        return runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
    sys.path[0], sys.argv = str(Path(how).resolve().parent), [how, *arguments]
    return runpy.run_path(how, run_name="__main__")


def end(ran: object, status: int) -> None:
    """As the interpreter ends, but for taking apart what was there before the fork: that copies all of
    it first, and takes ten times the CPU of all else that a short program does.
    """
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    names = vars(ran) if isinstance(ran, types.ModuleType) else ran
    if isinstance(names, dict):
        names.update(dict.fromkeys(names.keys() - {"__builtins__"}))
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(status)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Those of the worker that has started this process may go before it does.
    os.environ["DSPY_CACHEDIR"] = cache = tempfile.mkdtemp(prefix="streamll-tests-")
    for name in sys.argv[2:]:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # what all have is not looked through, and not copied by that
    served = serve(socket.socket(fileno=int(sys.argv[1])))
    if served is None:
        shutil.rmtree(cache, ignore_errors=True)
        os._exit(0)
    request, files = served
    take_place(request, files)
    ran, status = None, 0
    try:
        ran = run(*request["arguments"])
    except SystemExit as exiting:
        if not isinstance(exiting.code, int | None):
            raise  # the interpreter prints it
        status = exiting.code or 0
    end(ran, status & 0xFF)
