"""deploy/Dockerfile: its steps as they stand there, and a container of what they make."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from profiles import THOROUGH

from deploy.dockerfile import ROOT, Image, stages
from serve.serving import wait_until

FILE = ROOT / "deploy" / "Dockerfile"
TOKEN = "a-token-for-this-very-test"
LISTENS = "00000000:1F40 00000000:0000 0A"  # at 0.0.0.0:8000

CAN_MOUNT = sys.platform == "linux" and os.geteuid() == 0 and shutil.which("unshare")

CLIENT = f"""
import json, urllib.request as request
def ask(path, body=None):
    headers = {{"authorization": "Bearer {TOKEN}", "content-type": "application/json"}}
    return request.urlopen(request.Request("http://127.0.0.1:8000" + path, body, headers), timeout=60)
run = json.load(ask("/runs", json.dumps({{"inputs": {{"question": "q"}}}}).encode()))
events = [line for line in ask(run["events"]) if line.startswith(b"data:")]
print(json.loads(events[-1][5:])["event_type"])
"""


@pytest.fixture
def image(tmp_path):
    """The last stage. The one that installs is run if there is time; else this environment stands for it."""
    *before, last = stages(FILE.read_text())
    built = {}
    if THOROUGH:
        [build] = before
        built["build"] = Image(tmp_path / "build", build, {})
        return Image(tmp_path / "image", last, built)
    [copied] = [each for each in last if each.flags.get("from") == "build"]
    image = Image(tmp_path / "image", [each for each in last if each is not copied], built)
    source, target = copied.words
    assert source == target == "/opt/streamll"
    (image.layer / "opt").mkdir(parents=True, exist_ok=True)
    (image.layer / "opt" / "streamll").symlink_to(sys.prefix)
    image.environment["PYTHONPATH"] = str(ROOT / "src")
    return image


@pytest.mark.skipif(not CAN_MOUNT, reason="mounting needs Linux and root")
def test_a_container_serves_reports_its_health_and_ends(image):
    container = image.start([], STREAMLL_TOKENS=TOKEN)
    try:
        early = container.is_healthy()  # which it is not until it listens, however late one looks
        assert not early or LISTENS in container.runs(["cat", "/proc/net/tcp"]).stdout
        sockets = Path(f"/proc/{container.process.pid}/net/tcp")

        def has_ended():
            return container.process.poll() is not None

        # Each check starts a Python, so that none is made before it can succeed.
        wait_until(lambda: has_ended() or LISTENS in sockets.read_text(), seconds=300)
        wait_until(lambda: has_ended() or container.is_healthy(), seconds=300)
        assert container.process.poll() is None, container.process.stdout.read()
        assert container.runs(["id", "-u"]).stdout == "10001\n"
        written = container.runs(
            ["sh", "-c", "touch /app/x; touch /opt/x; touch /tmp/x && echo tmp"]
        )
        assert written.stderr.count("Read-only file system") == 2
        assert written.stdout == "tmp\n"
        assert LISTENS in container.runs(["cat", "/proc/net/tcp"]).stdout
        asked = container.runs(["python", "-c", CLIENT])
        assert asked.stdout == "run.end\n", asked.stderr
        assert container.stop() == 0
    finally:
        container.remove()


def test_the_context_has_what_is_copied_and_nothing_else():
    ignored = (FILE.parent / "Dockerfile.dockerignore").read_text().splitlines()
    let_in = {line[1:] for line in ignored if line.startswith("!")}
    copied = {
        source
        for stage in stages(FILE.read_text())
        for each in stage
        if each.name == "COPY" and "from" not in each.flags
        for source in each.words[:-1]
    }
    assert "*" in ignored
    assert copied == let_in
    assert all((ROOT / each).exists() for each in copied)


def test_the_linter_has_nothing_to_say():
    hadolint = shutil.which("hadolint", path=f"{sys.prefix}/bin")
    if hadolint is None:
        pytest.skip("there is no wheel of hadolint for this machine")
    done = subprocess.run([hadolint, str(FILE)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_healthcheck_asks_the_port_that_is_served():
    image = {each.name: each for each in stages(FILE.read_text())[-1]}
    port = image["EXPOSE"].value
    assert json.loads(image["ENTRYPOINT"].value)[-2:] == ["--port", port]
    assert f"127.0.0.1:{port}/healthz" in image["HEALTHCHECK"].value
