"""The examples of docs/wire.md work: a reader in another language reads what a sink wrote."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from brokers.backends import own
from brokers.sample_runs import BOUND, make_run
from brokers.servers import ROOT, RedisServer, redis_binary, redis_cli
from streamll.sinks import RedisSink

DOCUMENT = (ROOT / "docs" / "wire.md").read_text("utf-8")


@pytest.fixture
def server(tmp_path):
    with own(lambda: RedisServer(tmp_path / "redis", redis_binary())) as server:
        yield server


def test_the_documented_javascript_reader_reads_a_redis_stream(server, tmp_path):
    """X10: with redis-cli and node, nothing of ours."""
    sink = RedisSink(server.url)
    for event in make_run("r1", ["こん", "にち", "は", "\\n"]):
        sink.put(event)
    assert sink.stop(BOUND)
    reader = tmp_path / "reader.mjs"
    reader.write_text(re.search(r"```javascript\n(.*?)```", DOCUMENT, re.DOTALL)[1], "utf-8")
    command = re.search(r"^redis-cli (--raw XRANGE .*) \| node reader.mjs$", DOCUMENT, re.MULTILINE)
    stream = subprocess.run(
        [redis_cli(), "-p", str(server.port), *command[1].split()],
        capture_output=True,
        check=True,
        timeout=BOUND,
        env=server.environment(),
    ).stdout
    node = shutil.which("node")
    if node is None:
        pytest.skip("needs node")
    read = subprocess.run(
        [node, reader], input=stream * 2, capture_output=True, check=True, timeout=BOUND
    )
    assert read.stdout.decode() == "こんにちは\\n"


def test_the_compose_file_has_both_brokers():
    composed = yaml.safe_load((Path(__file__).parents[2] / "docker-compose.yml").read_text())
    assert set(composed["services"]) == {"redis", "rabbitmq"}
    for service in composed["services"].values():
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])
