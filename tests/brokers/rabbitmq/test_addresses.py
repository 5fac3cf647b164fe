"""URLs of RabbitMQ: several hosts, and the options behind them."""

from __future__ import annotations

import pytest

from brokers.backends import unique_name
from brokers.load import consumer_warning, discard_backlog
from brokers.sample_runs import BOUND, ends, make_run, plain, read_log
from brokers.servers import free_port, wait_until
from streamll.brokers.rabbitmq import client
from streamll.brokers.rabbitmq.address import Address, NoNodeAvailable
from streamll.consumer import EventConsumer
from streamll.core.errors import ConfigurationError
from streamll.sinks import RabbitMQSink, open_sink


@pytest.mark.parametrize(
    ("url", "nodes"),
    [
        ("amqp://", {"localhost": "amqp://"}),
        ("amqp://h", {"h": "amqp://h"}),
        ("amqps://u:p@h:1/v", {"h:1": "amqps://u:p@h:1/v"}),
        (
            "amqp://u:p@h1:1,h2,h3:3/v?name=x&replicas=3",
            {
                "h1:1": "amqp://u:p@h1:1/v?name=x",
                "h2": "amqp://u:p@h2/v?name=x",
                "h3:3": "amqp://u:p@h3:3/v?name=x",
            },
        ),
        ("amqp://h1, h2", {"h1": "amqp://h1", "h2": "amqp://h2"}),
        ("amqp://h1,h1", {"h1": "amqp://h1"}),
        ("amqp://[::1]:1,[::2]/", {"[::1]:1": "amqp://[::1]:1/", "[::2]": "amqp://[::2]/"}),
        ("amqp://u:%2C%40@h/a,b", {"h": "amqp://u:%2C%40@h/a,b"}),
        ("amqp://u:a,b@h", {"h": "amqp://u:a,b@h"}),
    ],
)
def test_hosts_separated_by_commas_are_nodes(url, nodes):
    address = Address(url)
    assert {node.name: node.url for node in address.nodes} == nodes


def test_nodes_are_tried_in_turn_from_a_random_one_on():
    firsts = set()
    for _ in range(200):
        address = Address("amqp://h1,h2,h3")
        turn = [node.name for node in address.in_turn()]
        firsts.add(turn[0])
        assert turn in (["h1", "h2", "h3"], ["h2", "h3", "h1"], ["h3", "h1", "h2"])
        assert [node.name for node in address.in_turn()] == turn
        used = next(iter(address.in_turn()))  # the one that works: later the next is tried first
        assert next(iter(address.in_turn())) is not used
    assert firsts == {"h1", "h2", "h3"}


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("amqp://u:secret@h1,,h2", "a comma without a host"),
        ("amqp://u:secret@h1,", "a comma without a host"),
        ("amqp://u:secret@h1,u:secret@h2", "user and password stand once"),
        ("amqp://u:secret@h1:1,h2:two", "is no URL: .*two"),
        ("amqp://u:secret@h1,h2?replicas=0", "replicas must be a whole number greater than 0"),
        ("amqp://u:secret@h1,h2?replicas=most", "replicas must be a whole number"),
        ("amqp://u:secret@h1?heartbeat=soon", "heartbeat must be a whole number of seconds"),
        ("amqp://u:secret@h1?heartbeat=601", "seconds, at most 600"),
        ("amqp://u:secret@h1,h2?replica=3", "no option 'replica'; there are max_bytes, heartbeat"),
        ("amqps://u:secret@h1,h2?cafile=/no/file", "there is no file '/no/file'"),
    ],
)
def test_a_mistake_raises_when_the_sink_or_consumer_is_created(url, message):
    for make in (open_sink, EventConsumer):
        with pytest.raises(ConfigurationError, match=message) as caught:
            make(url)
        assert "secret" not in str(caught.value)


@pytest.mark.parametrize("name", ["replicas", "heartbeat"])
def test_options_are_arguments_as_well(name):
    assert getattr(RabbitMQSink("amqp://h", **{name: 5})._address, name) == 5
    assert getattr(RabbitMQSink(f"amqp://h?{name}=5", **{name: 5})._address, name) == 5
    with pytest.raises(TypeError, match=f"{name}= has another value in the URL"):
        RabbitMQSink(f"amqp://h?{name}=5", **{name: 6})
    with pytest.raises(ConfigurationError, match=f"{name} must be a whole number"):
        RabbitMQSink("amqp://h", **{name: -1})


def test_a_log_has_as_many_replicas_as_rabbitmq_decides_unless_told():
    assert "x-initial-cluster-size" not in Address("amqp://h").log_arguments
    assert Address("amqp://h?replicas=3").log_arguments["x-initial-cluster-size"] == 3


def test_what_fails_is_told_for_each_node_and_without_credentials():
    address = Address("amqp://u:secret@h1,h2:2")
    one, two = address.nodes
    refused = ConnectionRefusedError(111, "Connection refused")
    away = NoNodeAvailable({one: refused, two: TimeoutError()})
    assert "secret" not in f"{away!r} {away.failures}"
    reason, fatal = client.diagnose(away, address)
    assert reason.startswith("h1: ConnectionRefusedError: Connection refused; h2:2: no answer")
    assert not fatal
    # What a node refuses for good is told alone: the other one, which is away, would refuse it too.
    wrong = NoNodeAvailable({one: TimeoutError(), two: ConnectionError("ACCESS_REFUSED")})
    assert client.diagnose(wrong, address) == ("h2:2: user or password is wrong", True)
    last = next(iter(address.in_turn()))
    assert client.diagnose(refused, address).reason.startswith(f"{last.name}: ConnectionRefused")
    elsewhere = ConnectionError("PRECONDITION_FAILED - no running replica on the local node")
    assert client.diagnose(elsewhere, address) == (
        f"{last.name}: this node has no replica of the log; name all nodes of the cluster in the URL",
        False,
    )


def test_nodes_that_are_down_are_passed_over(server_of, patient_clients):
    """By sinks, readers, members of groups and whoever asks whether there is a log."""
    port, target = server_of("rabbitmq").port, unique_name()
    url = f"amqp://guest:guest@127.0.0.1:{free_port()},127.0.0.1:{port},127.0.0.1:{free_port()}/"
    sink = RabbitMQSink(url, target=target)
    run = make_run("r1", ["a", "b"])
    for event in run:
        sink.put(event)
    assert sink.stop(BOUND)
    assert sink.statistics().failures == 0
    assert [plain(event) for event in read_log(url, target, ends(1))] == [plain(e) for e in run]
    handled = read_log(url, target, ends(1), group="g")
    assert [plain(event) for event in handled] == [plain(event) for event in run]


def test_hosts_that_are_all_down_are_named(caplog):
    url = f"amqp://u:secret@127.0.0.1:{free_port()},127.0.0.1:{free_port()}"
    sink = open_sink(url)
    sink.put(make_run("r1", [])[0])
    wait_until(lambda: sink.statistics().last_error, BOUND, "it has failed")
    told = [sink.statistics().last_error, caplog.text, consumer_warning(url, caplog)]
    discard_backlog(sink)
    for text in told:
        assert all(f"{host}: " in text for host in url.partition("@")[2].split(","))
        assert "secret" not in text
