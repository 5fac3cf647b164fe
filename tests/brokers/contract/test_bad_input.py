"""Invalid entries, URLs, options and credentials are reported clearly, and no valid entry is lost."""

from __future__ import annotations

import math
import subprocess

import pytest
import warm

from brokers.backends import Backend, own, script
from brokers.load import (
    consumer_warning,
    discard_backlog,
    fatal_consumer_error,
    sink_warning,
)
from brokers.raw_log import FOREIGN, put_raw, raw_dead_letters
from brokers.sample_runs import BOUND, check_order, ends, make_run, plain, read_log
from brokers.servers import RedisServer, free_port, redis_binary, wait_until
from streamll.consumer import EventConsumer, RabbitMQConsumer, RedisStreamConsumer
from streamll.core.errors import ConfigurationError
from streamll.core.events import RunEnd, RunStart, Status, StreamGap
from streamll.core.wire import encode
from streamll.sinks import RabbitMQSink, RedisSink, SQLiteSink, open_sink


def test_readers_skip_foreign_entries(backend, caplog):
    target = backend.target()
    sink = open_sink(backend.url, target=target)
    one, two = make_run("r1", ["a"]), make_run("r2", ["b"])
    for event in one:
        sink.put(event)
    assert sink.catch_up(BOUND)
    put_raw(backend, target, FOREIGN)
    for event in two:
        sink.put(event)
    assert sink.stop(BOUND)
    read = read_log(backend.url, target, ends(2))
    assert [plain(event) for event in read] == [plain(event) for event in [*one, *two]]
    assert len([r for r in caplog.records if "passed over" in r.getMessage()]) == 1


def test_an_event_that_cannot_be_read_costs_a_reader_nothing_else(backend):
    """The rest of its entry arrives, the run's end above all."""
    target = backend.target()
    before = make_run("r0", [])
    sink = open_sink(backend.url, target=target)
    for event in before:
        sink.put(event)
    assert sink.stop(BOUND)
    body = (
        b'{"v":1,"run_id":"r1","events":[{"event_type":"run.start","seq":0,"program":"P"},'
        b'{"event_type":"token","seq":1},{"event_type":"status","seq":2,"message":5},'
        b'{"event_type":"run.end","seq":3,"cost":"0.5"}]}'
    )
    put_raw(backend, target, [body])
    read = read_log(backend.url, target, ends(2))
    assert [type(event) for event in read[len(before) :]] == [RunStart, StreamGap, Status, RunEnd]
    check_order(read)


def test_a_groups_dead_letters_hold_unreadable_entries(backend):
    target = backend.target()
    consumer = EventConsumer(backend.url, target, group="g", start="beginning")
    seen = []
    consumer.subscribe(seen.append)
    consumer.start()
    assert consumer.wait_connected(BOUND)
    unreadable = put_raw(backend, target, FOREIGN) - 1  # one is only empty
    sink = open_sink(backend.url, target=target)
    for event in make_run("r1", ["a"]):
        sink.put(event)
    assert sink.stop(BOUND)
    wait_until(lambda: seen and seen[-1].event_type == "run.end", BOUND, "the run behind it")
    wait_until(lambda: consumer.statistics().malformed == unreadable, BOUND, "all dead letters")
    assert consumer.stop(BOUND)
    check_order(seen)
    assert consumer.statistics().dead_lettered == unreadable
    dead_letters = raw_dead_letters(backend, target, unreadable)
    assert len(dead_letters) == unreadable
    reasons = " ".join(letter["error"]["message"] for letter in dead_letters)
    assert "not JSON" in reasons
    assert "Upgrade streamll" in reasons
    assert any(letter.get("body") == FOREIGN[1].decode() for letter in dead_letters)


def test_an_oversized_event_becomes_a_gap_and_its_neighbours_arrive(backend):
    target = backend.target()
    sink = open_sink(backend.url, target=target, max_entry_bytes=10_000)
    run = make_run("r1", ["a", "x" * 20_000, "b"])
    for event in run:
        sink.put(event)
    assert sink.stop(BOUND)
    read = read_log(backend.url, target, ends(1))
    [gap] = [event for event in read if isinstance(event, StreamGap)]
    assert (gap.count, gap.reason, gap.run_id) == (1, "oversized", "r1")
    assert len(read) == len(run)
    assert sink.statistics().dropped == 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: open_sink("kafka://localhost"), "use sqlite://, redis://"),
        (lambda: open_sink("localhost:6379"), "no broker has URLs like"),
        (lambda: open_sink("redis://:secret@localhost:port"), "is no URL"),
        (lambda: open_sink("redis://:secret@localhost/events"), "number of a database"),
        (lambda: open_sink("redis://:secret@localhost?db=one"), "value for .db"),
        (lambda: open_sink("redis://:secret@localhost?colour=red"), "no option 'colour'"),
        (lambda: open_sink("redis://localhost?ssl_ca_certs=x"), "begins with rediss://"),
        (lambda: open_sink("rediss://localhost?ssl_cert_reqs=perhaps"), "perhaps"),
        (lambda: EventConsumer("rediss://localhost?ssl_keyfile=/no/file"), "there is no file"),
        (lambda: EventConsumer("amqps://u:secret@h/?cafile=/no/file"), "there is no file"),
        (lambda: EventConsumer("mysql://u:secret@h/db"), "no broker has URLs like"),
        (lambda: open_sink("redis:u:secret@h"), "no broker has URLs like '…@h'"),
        (lambda: EventConsumer("//u:secret@h"), "no broker has URLs like '…@h'"),
        (lambda: EventConsumer("sqlite:///"), "names no file"),
        (lambda: open_sink("sqlite://u:secret@h?x=1"), "names no file"),
        (lambda: RedisSink("amqp://localhost"), "is no Redis URL"),
        (lambda: RabbitMQSink("redis://localhost"), "is no RabbitMQ URL"),
        (lambda: SQLiteSink("redis://localhost"), "names no file"),
        (lambda: RedisStreamConsumer("amqp://localhost"), "EventConsumer reads any"),
        (lambda: RabbitMQConsumer("redis://localhost"), "EventConsumer reads any"),
        (lambda: RedisSink(batch_size=0), "at least 1"),
        (lambda: RedisSink(batch_size=math.nan), "at least 1"),
        (lambda: RedisSink(flush_interval=math.nan), "not be negative"),
        (lambda: EventConsumer("redis://localhost", start=7), "start is"),
    ],
)
def test_an_invalid_url_or_option_raises_at_once(make, message):
    with pytest.raises(ConfigurationError, match=message) as caught:
        make()
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("sink", "given", "named"),
    [
        (RedisSink, {"url": "redis://a", "redis_url": "redis://b"}, "url= and redis_url="),
        (RedisSink, {"stream_key": "a", "target": "b"}, "stream_key= and target="),
        (RabbitMQSink, {"url": "amqp://a", "amqp_url": "amqp://b"}, "url= and amqp_url="),
        (RabbitMQSink, {"rabbitmq_url": "amqp://a", "amqp_url": "amqp://b"}, "rabbitmq_url= and"),
        (RabbitMQSink, {"exchange": "a", "target": "b"}, "exchange= and target="),
    ],
)
def test_synonyms_with_different_values_are_a_type_error(sink, given, named):
    with pytest.raises(TypeError, match=named):
        sink(**given)
    same = dict.fromkeys(given, next(iter(given.values())))
    assert isinstance(sink(**same), sink)


@pytest.fixture(scope="module")
def locked(tmp_path_factory):
    """A Redis that requires a password."""
    folder = tmp_path_factory.mktemp("locked")
    with own(lambda: RedisServer(folder, redis_binary(), "--requirepass", "open sesame")) as server:
        yield server


def test_wrong_credentials_end_a_consumer_and_are_logged_by_a_sink(locked, server_of, caplog):
    rabbit = server_of("rabbitmq").url
    for url in (
        locked.url,
        locked.url.replace("//", "//:secret@"),
        locked.url.replace("//", "//nobody:secret@"),
        rabbit.replace("guest:guest", "guest:secret"),
    ):
        message = fatal_consumer_error(url)
        assert "user or password" in message
        assert "secret" not in message
        message = sink_warning(url, caplog)
        assert "password" in message
        assert "secret" not in message


def test_a_broker_that_refuses_does_not_hold_up_the_exit(locked, server_of):
    """And what was lost by it is counted."""
    rabbit = server_of("rabbitmq").url.replace("guest:guest", "guest:secret")
    for url in (locked.url, rabbit):
        body = """
            from streamll.sinks import base
            base.EXIT_SECONDS = 3600
            sink = open_sink(url, target=target)
            for event in make_run("r1", ["x"] * 91):
                sink.put(event)
        """
        done = warm.run(
            script(Backend("any", url), "t", body),
            capture_output=True,
            timeout=5 * BOUND,  # a process takes a busy machine some time; not 3600 s
            check=True,
        )
        *failures, lost = done.stderr.decode().splitlines()
        assert all("cannot deliver" in line for line in failures)  # one that was slow at first, too
        assert ["password" in line for line in failures].count(True) == 1
        assert "did not finish before the exit; 97 events are lost" in lost


def test_a_refusal_behind_another_failure_is_logged_as_well(tmp_path, caplog):
    with own(lambda: RedisServer(tmp_path, redis_binary(), "--requirepass", "sesame")) as server:
        server.kill()
        sink = open_sink(server.url)
        for event in make_run("r1", ["x"]):
            sink.put(event)
        wait_until(lambda: sink.statistics().failures, BOUND, "nobody listens")
        server.start()
        wait_until(lambda: "password" in caplog.text, BOUND, "it is refused")
        tried = sink.statistics().failures
        wait_until(lambda: sink.statistics().failures >= tried + 2, BOUND, "and again")
        # Threads of earlier tests may log as well, that of answers for one.
        said = [r.getMessage() for r in caplog.records]
        unreachable, refused = [each for each in said if each.startswith("sink ")]
        assert "password" not in unreachable
        assert "password" in refused
        assert sink.stop(3600) is False  # at once
        discard_backlog(sink)


def test_a_sink_is_stopped_at_once_where_the_broker_refuses(locked):
    sink = open_sink(locked.url)
    for event in make_run("r1", ["x"]):
        sink.put(event)
    assert sink.stop(3600) is False
    discard_backlog(sink)


NOBODY_MAY = """
    {{ok, _}} = application:ensure_all_started(rabbit),
    rabbit_auth_backend_internal:add_user(<<"nobody">>, <<"secret">>, <<"tests">>),
    rabbit_auth_backend_internal:set_permissions(
        <<"nobody">>, <<"{virtual_host}">>, <<"">>, <<"">>, <<"">>, <<"tests">>).
"""


def test_a_missing_database_or_permission_is_reported(server_of, caplog):
    """A virtual host, a database, a permission; consumers raise and sinks log."""
    redis, rabbit = server_of("redis"), server_of("rabbitmq")
    with control_of(redis) as control:
        control.acl_setuser("nobody", enabled=True, passwords=["+secret"], commands=["+ping"])
    part = rabbit.new_part()
    rabbit.evaluate(NOBODY_MAY.format(virtual_host=part.rpartition("/")[2]))
    log = open_sink(part)  # who may do nothing is refused by a log that there is
    log.put(Status(message="the log exists"))
    assert log.stop(BOUND)
    for url, expected in (
        (f"{redis.url}/99999", "no database of the number"),
        (redis.url.replace("//", "//nobody:secret@"), "the user may not"),
        (f"{rabbit.url}nowhere", "virtual host"),
        (part.replace("guest:guest", "nobody:secret"), "the user may not"),
    ):
        for message in (fatal_consumer_error(url), sink_warning(url, caplog)):
            assert expected in message
            assert "secret" not in message


def control_of(server):
    import redis

    return redis.Redis(port=server.port)


def test_a_refused_connection_is_reported(caplog):
    for scheme in ("redis", "rediss", "amqp", "amqps"):
        url = f"{scheme}://127.0.0.1:{free_port()}"
        for message in (sink_warning(url, caplog), consumer_warning(url, caplog)):
            assert "Connection refused" in message or "Connect call failed" in message


def test_tls_to_a_server_without_tls_is_reported(server_of, caplog, monkeypatch):
    monkeypatch.setattr("streamll.brokers.redis.client.CONNECT_TIMEOUT_S", 0.5)
    consumer = EventConsumer(server_of("redis").url.replace("redis://", "rediss://"))
    consumer.start()  # a Redis without TLS does not answer, like one behind a dead network
    wait_until(lambda: "is it redis://?" in caplog.text, BOUND, "a warning")
    assert consumer.stop(BOUND)
    assert "amqps://?" in fatal_consumer_error(
        server_of("rabbitmq").url.replace("amqp://", "amqps://")
    )


def test_a_key_or_file_of_another_type_is_reported(server_of, tmp_path):
    import redis

    url = server_of("redis").url
    with redis.Redis.from_url(url) as client:
        client.set("a-text", "hello")
    assert "is no stream" in fatal_consumer_error(url, "a-text")
    (tmp_path / "letter.txt").write_text("Dear reader, this is no database. " * 100)
    assert "is no log" in fatal_consumer_error(f"sqlite:///{tmp_path}/letter.txt")
    assert "is its folder there" in fatal_consumer_error(f"sqlite:///{tmp_path}/no/log.db")


def test_an_event_added_with_redis_cli_is_read(server_of):
    """A single event without an envelope is an entry as well."""
    from brokers.servers import redis_cli

    server = server_of("redis")
    event = encode(make_run("typed", ["a"])[0]).decode()
    subprocess.run(
        [redis_cli(), "-p", str(server.port), "XADD", "typed", "*", "d", event],
        check=True,
        stdout=subprocess.DEVNULL,
        timeout=BOUND,
        env=server.environment(),
    )
    [read] = read_log(server.url, "typed", lambda events: len(events) == 1)
    assert read.event_type == "run.start"
