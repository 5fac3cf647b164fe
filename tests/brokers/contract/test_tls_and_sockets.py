"""X10: Redis over a socket file, Redis and RabbitMQ over TLS, and how TLS failures are reported."""

from __future__ import annotations

import errno
import time
from contextlib import contextmanager

import pytest

from brokers.backends import own
from brokers.load import (
    BackgroundReader,
    check_complete,
    check_nothing_lost,
    consumer_warning,
    fatal_consumer_error,
    in_background,
    in_the_middle,
    paced_runs,
    sink_warning,
)
from brokers.sample_runs import BOUND, by_run, check_order, ends, make_run, plain, read_log, text_of
from brokers.servers import RedisServer, Wire, redis_binary, wait_until
from streamll.brokers.failures import diagnose_connection
from streamll.consumer import EventConsumer
from streamll.sinks import open_sink


class TLSServer:
    """A server that speaks TLS, and its URLs."""

    def __init__(self, server, certificates, *, amqp: bool) -> None:
        self.server = server
        self.plain = "amqp://guest:guest@" if amqp else "redis://"
        self.scheme = self.plain.replace("://", "s://")
        names = "cafile certfile keyfile" if amqp else "ssl_ca_certs ssl_certfile ssl_keyfile"
        self.authority, certificate, key = names.split()
        self.trusting = f"{self.authority}={certificates.authority}"
        self.known = f"{certificate}={certificates.client}&{key}={certificates.client_key}"
        self.forged = f"{certificate}={certificates.forged}&{key}={certificates.forged_key}"

    def url(self, *options: str, scheme=None, host="localhost", port=None) -> str:
        query = "&".join(options)
        return f"{scheme or self.scheme}{host}:{port or self.server.tls_port}/?{query}".rstrip("?")


@pytest.fixture(params=["redis", "rabbitmq"])
def tls(request, server_of, certificates):
    return TLSServer(server_of(request.param), certificates, amqp=request.param == "rabbitmq")


@pytest.fixture(scope="module")
def own_redis(tmp_path_factory, certificates):
    """With TLS, and of these tests' own: they configure it."""

    def make():
        folder = tmp_path_factory.mktemp("redis")
        return RedisServer(folder, redis_binary(), certificates=certificates)

    with own(make) as server:
        yield server


@pytest.fixture(params=["unix", "rediss", "amqps"])
def url(request, server_of, certificates):
    if request.param == "unix":
        return f"unix://{server_of('redis').socket}?db=3"
    server = server_of("redis" if request.param == "rediss" else "rabbitmq")
    tls = TLSServer(server, certificates, amqp=request.param == "amqps")
    return tls.url(tls.trusting)


def test_writing_reading_and_groups_work_over_tls_and_socket_files(url):
    """D4, X10: sink, reader, resuming reader, and a member of a group."""
    member = EventConsumer(url, "secure", group="g", start="beginning")
    handled = []
    member.subscribe(handled.append)
    member.start()
    assert member.wait_connected(BOUND)
    sink = open_sink(url, target="secure")
    runs = [make_run(f"r{n}", [f"{n}.{i} " for i in range(50)], {"n": n}) for n in range(5)]
    for run in runs:
        for event in run:
            sink.put(event)
    assert sink.stop(BOUND)
    read = read_log(url, "secure", ends(5))
    check_order(read)
    for n, events in by_run(read).items():
        assert [plain(event) for event in events] == [plain(event) for event in runs[int(n[1:])]]
    rest = read_log(url, "secure", ends(1), start=("r3", 20))
    assert [event.seq for event in rest] == list(range(21, len(runs[3])))
    wait_until(lambda: len(handled) == sum(map(len, runs)), BOUND, "the member has handled all")
    assert member.stop(BOUND)


def test_a_cut_tls_connection_neither_loses_nor_duplicates(tls):
    """X10: as without TLS, in the middle of 20 runs."""
    wire = Wire(tls.server.tls_port)
    url = tls.url(tls.trusting, port=wire.port)
    sink, reader = open_sink(url, target="cut-tls"), BackgroundReader(url, "cut-tls")
    assert reader.consumer.wait_connected(BOUND)

    def disturb():
        in_the_middle(sink)
        wire.cut()
        wait_until(lambda: sink.statistics().failures, BOUND, "the sink notices")
        wire.mend()
        time.sleep(0.3)
        wire.cut()
        time.sleep(0.2)
        wire.mend()

    with in_background(disturb) as over:
        runs = paced_runs(sink, until=over)
    assert sink.stop(BOUND)
    reader.wait_for_ends(len(runs))
    reader.stop()
    wire.close()
    check_complete(reader.events, runs)
    check_nothing_lost(sink)
    assert sink.statistics().failures > 0


def test_an_untrusted_certificate_is_reported_with_the_option_that_helps(tls, certificates, caplog):
    for url in (tls.url(), tls.url(f"{tls.authority}={certificates.stranger}")):
        for message in (fatal_consumer_error(url), sink_warning(url, caplog)):
            assert "certificate is not trusted" in message
            assert f"{tls.authority}=/path/to/ca.pem" in message
            assert str(certificates.stranger) not in message


def test_a_certificate_for_another_host_is_reported(tls, caplog):
    url = tls.url(tls.trusting, host="127.0.0.1")
    for message in (fatal_consumer_error(url), sink_warning(url, caplog)):
        assert "certificate is for another host" in message
        assert "127.0.0.1" in message


def test_a_server_that_requires_tls_is_reported(tls, caplog):
    """Such a server just hangs up, as one that restarts does: so it is a hint, and no error."""
    url = tls.url(scheme=tls.plain)
    hint = f"does it want TLS, {tls.scheme.partition('guest')[0]}?"
    assert hint in sink_warning(url, caplog)
    assert hint in consumer_warning(url, caplog)


def test_a_client_certificate_is_sent_and_its_rejection_reported(tls, caplog):
    url = tls.url(tls.trusting, tls.known)
    sink = open_sink(url, target="known-to-all")
    for event in make_run("r1", ["a"]):
        sink.put(event)
    assert sink.stop(BOUND)
    assert text_of(read_log(url, "known-to-all", ends(1))) == "a"
    url = tls.url(tls.trusting, tls.forged)
    assert "does it want a certificate" in sink_warning(url, caplog)


@pytest.mark.parametrize(
    ("url", "hint"),
    [
        ("rediss://host", "does it want a certificate, ssl_certfile and ssl_keyfile in the URL?"),
        ("redis://host", "does it want TLS, rediss://?"),
        ("unix:///file", ""),
    ],
)
def test_a_server_that_hangs_up_before_it_has_answered_gets_a_hint(url, hint):
    """Its reason may be lost with the connection, which is a matter of who is quicker."""
    own = {"authority": "ssl_ca_certs", "own": "ssl_certfile and ssl_keyfile"}
    error, schemes = ConnectionResetError(errno.ECONNRESET, "reset"), ("redis", "rediss")
    for answered in (False, True):
        told = diagnose_connection(error, url, schemes, answered=answered, **own)
        assert told.reason.partition("; ")[2] == ("" if answered else hint)
        assert not told.fatal


def test_a_missing_certificate_file_raises_at_once(tls):
    from streamll.core.errors import ConfigurationError

    url = tls.url(f"{tls.authority}=/no/such/ca.pem")
    for make in (open_sink, EventConsumer):
        with pytest.raises(ConfigurationError, match=f"there is no file .*{tls.authority}="):
            make(url)


@contextmanager
def configured(server, **options):
    import redis

    with redis.Redis(port=server.port) as control:
        names = [name.replace("_", "-") for name in options]
        before = {name: control.config_get(name)[name] for name in names}
        control.config_set(
            *(text for name in names for text in (name, str(options[name.replace("-", "_")])))
        )
        yield
        control.config_set(*(text for pair in before.items() for text in pair))


def test_a_server_that_requires_client_certificates_gets_ours(own_redis, certificates, caplog):
    tls = TLSServer(own_redis, certificates, amqp=False)
    with configured(tls.server, tls_auth_clients="yes"):
        sink = open_sink(tls.url(tls.trusting, tls.known), target="known")
        for event in make_run("r1", ["a"]):
            sink.put(event)
        assert sink.stop(BOUND)
        assert text_of(read_log(tls.url(tls.trusting, tls.known), "known", ends(1))) == "a"
        unknown = sink_warning(tls.url(tls.trusting), caplog)
        assert "does it want a certificate, ssl_certfile and ssl_keyfile" in unknown


def test_an_expired_certificate_is_reported(own_redis, certificates, caplog):
    tls = TLSServer(own_redis, certificates, amqp=False)
    expired = {"tls_cert_file": certificates.expired, "tls_key_file": certificates.expired_key}
    with configured(tls.server, **expired):
        assert "certificate has expired" in fatal_consumer_error(tls.url(tls.trusting))


def test_a_socket_file_that_appears_later_gets_everything(tmp_path, caplog):
    """X10: until then the sink logs, once, which file is missing."""
    with own(lambda: RedisServer(tmp_path, redis_binary())) as server:
        server.kill()
        server.socket.unlink(missing_ok=True)
        url = f"unix://{server.socket}"
        sink = open_sink(url)
        for event in make_run("r1", ["a"]):
            sink.put(event)
        wait_until(lambda: sink.statistics().failures, BOUND, "it has been tried")
        assert f"{url} streamll:events (ConnectionError: No such file" in caplog.text
        server.start()
        assert sink.stop(BOUND)
        assert text_of(read_log(url, None, ends(1))) == "a"
