"""A process that starts warm is as a cold one: what ``warm.Popen`` promises, for both."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest
import warm

BOUND = 60
TELL = """
import atexit, json, os, signal, sys, threading
atexit.register(lambda: print("at exit", flush=True))
told = {
    "argv": sys.argv, "name": __name__, "main": sys.modules["__main__"].__dict__ is globals(),
    "cwd": os.getcwd(), "env": dict(os.environ), "read": sys.stdin.read(),
    "threads": threading.active_count(), "leads": os.getsid(0) == os.getpid(),
    "interrupts": signal.getsignal(signal.SIGINT) is signal.default_int_handler,
    "files": len(os.listdir("/proc/self/fd")) if os.path.exists("/proc/self/fd") else 0,
}
print(json.dumps(told))
threading.Thread(target=lambda: print("a last thread", flush=True)).start()
sys.exit(3)
"""


@pytest.fixture(params=["warm", "cold"])
def run(request):
    def run(command, **options):
        if request.param == "warm":
            return warm.run(command, **options)
        return subprocess.run(command, check=False, **options)

    return run


@pytest.mark.parametrize("way", ["-c", "-m", "script"])
def test_it_runs_where_and_with_what_it_is_given(run, way, tmp_path):
    (tmp_path / "tell.py").write_text(TELL)
    command = {"-c": ["-c", TELL], "-m": ["-m", "tell"], "script": [tmp_path / "tell.py"]}[way]
    env = {**os.environ, "STREAMLL_TESTED": "yes", "PYTHONIOENCODING": "utf-8"}
    del env["SSL_CERT_FILE"]  # which tests/conftest.py has set
    done = run(
        [sys.executable, *command, "one", "two"],
        cwd=tmp_path, env=env, input="gr\u00fc\u00df", capture_output=True, encoding="utf-8", start_new_session=True,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (3, "")
    told, *rest = done.stdout.splitlines()
    told = json.loads(told)
    assert rest == ["a last thread", "at exit"]
    own = {"-c": "-c", "-m": str(tmp_path / "tell.py"), "script": str(tmp_path / "tell.py")}[way]
    assert told["argv"] == [own, "one", "two"]
    assert (told["name"], told["main"], told["leads"], told["interrupts"]) == ("__main__",) + (
        True,
    ) * 3
    assert (told["cwd"], told["env"], told["read"]) == (str(tmp_path), env, "gr\u00fc\u00df")
    assert told["threads"] == 1
    assert told["files"] in (0, 4)  # its three, and the folder that it looks into


@pytest.mark.parametrize(
    ("code", "returns", "says"),
    [
        ("raise KeyError('k')", 1, "KeyError: 'k'"),
        ("raise KeyboardInterrupt", -signal.SIGINT, "KeyboardInterrupt"),
        ("import sys; sys.exit('no')", 1, "no"),
        ("import os; os.kill(os.getpid(), 9)", -signal.SIGKILL, ""),
        ("import os; os._exit(7)", 7, ""),
    ],
)
def test_its_end_is_told(run, code, returns, says):
    done = run([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
    assert done.returncode == returns
    assert done.stderr.rstrip().endswith(says)


def test_it_is_waited_for_and_gets_signals():
    code = "import time; print('there', flush=True); time.sleep(600)"
    with warm.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "there\n"
        assert process.poll() is None
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.01)
        process.terminate()
        assert process.wait(BOUND) == process.poll() == -signal.SIGTERM


if not warm.IS_COLD:

    @pytest.mark.parametrize(
        ("command", "env", "says"),
        [
            (["node", "x.js"], {}, "has to be a cold process"),
            ([sys.executable, "-I", "-c", "pass"], {}, "has to be a cold process"),
            ([sys.executable, "-c", "pass"], {"PYTHONHASHSEED": "7"}, "PYTHONHASHSEED is read at"),
        ],
    )
    def test_what_only_a_cold_process_can_do_is_refused(command, env, says):
        with pytest.raises(ValueError, match=says):
            warm.Popen(command, env={**os.environ, **env})
