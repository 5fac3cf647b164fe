"""A server in a process of its own, which can be killed.

``python process.py LOG MODEL_URL LOST [NAME …]``: with names it serves a program under each of them.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time

import httpx

BOUND = 60
UNAVAILABLE = 503


class ServerProcess:
    """Serves ``question -> reasoning, answer``; its ``url`` is known once it answers."""

    def __init__(self, log, model_url, lost_seconds=60.0, script=__file__, names=()):
        arguments = [sys.executable, script, log, model_url, str(lost_seconds), *names]
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        import warm  # not where this file is the server's script

        self._process = warm.Popen(arguments, stdout=subprocess.PIPE, env=environment, text=True)
        self.port = int(self._process.stdout.readline())
        self.url = f"http://127.0.0.1:{self.port}"
        deadline = time.monotonic() + BOUND
        while True:
            with contextlib.suppress(httpx.TransportError):
                with self.client() as client:
                    # Whatever it answers, but that it cannot read its log yet.
                    if client.get("/healthz").status_code != UNAVAILABLE:
                        return
            assert time.monotonic() < deadline, "the server's process does not answer"
            time.sleep(0.02)

    def client(self, **options):
        return httpx.Client(base_url=self.url, timeout=60, trust_env=False, **options)

    def kill(self):
        """As the kernel does when memory is out: no word to anybody."""
        self.stop(signal.SIGKILL)

    def send(self, number):
        self._process.send_signal(number)

    def stop(self, number=signal.SIGTERM):
        if self._process.poll() is None:
            self.send(number)
        self._process.wait(BOUND)
        self._process.stdout.close()


def main(log, model_url, lost_seconds, names=()):
    import socket

    import dspy
    import uvicorn

    from streamll.serve import Limits, create_app, runner

    runner.LOGGED_S = BOUND  # on a busy machine the log may have a run's start late
    lm = dspy.LM("openai/practice", api_base=model_url, api_key="practice", cache=False)
    dspy.configure(lm=lm, adapter=dspy.ChatAdapter())
    program = dspy.Predict("question -> reasoning, answer")
    served = dict.fromkeys(names, program) or program
    app = create_app(served, log=log, limits=Limits(lost_seconds=float(lost_seconds)))
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        print(listening.getsockname()[1])
        config = uvicorn.Config(
            app, log_level="warning", timeout_graceful_shutdown=5, timeout_keep_alive=BOUND
        )
        uvicorn.Server(config).run(sockets=[listening])


if __name__ == "__main__":
    main(*sys.argv[1:4], names=sys.argv[4:])
