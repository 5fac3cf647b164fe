"""What a Redis URL says, and what is refused before anything is connected."""

from __future__ import annotations

import pytest

from streamll.brokers.opening import dead_letter_target
from streamll.brokers.redis.urls import Address, place_of
from streamll.consumer import EventConsumer
from streamll.core.errors import ConfigurationError
from streamll.sinks import RedisSink, open_sink


@pytest.mark.parametrize(
    ("url", "kind", "hosts", "service", "own"),
    [
        ("redis://h", "server", ["h:6379"], None, "redis://h:6379"),
        ("redis://u:p@h:1/2?protocol=2", "server", ["h:1"], None, "redis://u:p@h:1/2?protocol=2"),
        ("unix://u:p@/run/r.sock?db=3", "server", [], None, "unix://u:p@/run/r.sock?db=3"),
        ("redis+cluster://h1,h2:7/", "cluster", ["h1:6379", "h2:7"], None, "redis://h1:6379"),
        (
            "rediss+cluster://u:a%40b@h1:1,[::1]:2/0?ssl_cert_reqs=none&replicas=1",
            "cluster",
            ["h1:1", "[::1]:2"],
            None,
            "rediss://u:a%40b@h1:1/0?ssl_cert_reqs=none",
        ),
        (
            "redis+sentinel://u:p@h1,h2:9/my%20main/4?maxlen=5",
            "sentinel",
            ["h1:26379", "h2:9"],
            "my main",
            "redis://u:p@h1:26379/4",
        ),
    ],
)
def test_a_url_is_taken_apart(url, kind, hosts, service, own):
    place = place_of(url)
    assert (place.kind, [*map(str, place.hosts)], place.service) == (kind, hosts, service)
    assert place.url() == own
    assert open_sink(url).destination == f"{place.shown} streamll:events"


def test_a_socket_files_cluster_is_reached_by_its_nodes_addresses():
    place = place_of("unix://u:p@/run/r.sock?protocol=2")
    assert place.url(Address("h", 7)) == "redis://u:p@h:7?protocol=2"


def test_sentinels_have_users_of_their_own():
    place = place_of("redis+sentinel://u:p@h/main?sentinel_username=s&sentinel_password=a@b")
    assert place.sentinel_url(place.hosts[0]) == "redis://s:a%40b@h:26379"
    assert place.url(Address("x", 1)) == "redis://u:p@x:1"


@pytest.mark.parametrize(
    ("url", "message"),
    [
        (
            "redis://:secret@h1:1,h2:2/",
            "several hosts are those of a cluster, redis.cluster://, or",
        ),
        ("redis+cluster://:secret@h1:1,,h2:2/", "a host is missing in 'h1:1,,h2:2'"),
        ("redis+cluster://:secret@h1:x,h2/", "is no URL: Port could not be cast"),
        ("redis+cluster://:secret@h/3", "a cluster has no database 3, only 0"),
        ("redis+cluster://:secret@h/events", "the number of a database; the stream's name is"),
        ("redis+sentinel://:secret@h", "behind the Sentinels comes the name of what they watch"),
        ("redis+sentinel://:secret@h/main/x", "the number of a database"),
        (
            "redis+cluster://:secret@h/?spread=3",
            "has no option 'spread'; there are maxlen, ttl, rep",
        ),
        ("redis+magic://:secret@h/", "no broker has URLs like"),
    ],
)
def test_a_url_that_cannot_work_is_refused(url, message):
    for use in (open_sink, EventConsumer):
        with pytest.raises(ConfigurationError, match=message) as refused:
            use(url)
        assert "secret" not in str(refused.value)


def test_replicas_are_given_once():
    assert RedisSink("redis://h").replicas is None
    assert RedisSink("redis://h?replicas=2").replicas == RedisSink("redis://h", replicas=2).replicas
    with pytest.raises(TypeError, match="replicas= has another value in the URL"):
        RedisSink("redis://h?replicas=2", replicas=1)
    with pytest.raises(ConfigurationError, match="replicas must not be negative"):
        RedisSink("redis://h", replicas=-1)


def test_a_log_has_the_same_name_on_a_cluster():
    for url in ("redis://h", "redis+cluster://h", "redis+sentinel://h/main"):
        assert dead_letter_target(url, "run:r1") == "run:r1:dead"
