"""What a process knows of a cluster's slots. Without servers: replies are given to it."""

from __future__ import annotations

from redis.crc import key_slot

from streamll.brokers.redis.servers import Redirection, Servers, redirection
from streamll.brokers.redis.urls import Address, place_of

A, B, C = (Address(host, 7000) for host in "abc")


def learn(servers: Servers, *shards: tuple[int, int, Address]) -> None:
    questions = servers.finding()
    next(questions)
    try:
        questions.send([[first, last, [at.host.encode(), at.port]] for first, last, at in shards])
    except StopIteration:
        return
    raise AssertionError("it asks for more")


def told(word: str, slot: int, at: Address) -> Redirection:
    found = redirection(Exception(f"{word} {slot} {at}"))
    assert found is not None
    return found


def test_what_has_moved_last_counts_until_all_is_learnt_anew():
    servers, slot = Servers(place_of("redis+cluster://a:7000")), key_slot(b"x")
    learn(servers, (0, 8191, A), (8192, 16383, B))
    assert servers.address_for(b"x") == (A if slot < 8192 else B)
    for to in (C, A, C):
        assert servers.redirected(told("MOVED", slot, to), B) is None
    assert servers.address_for(b"x") == C
    assert set(servers.primaries()) == {A, B, C}
    assert servers.redirected(told("ASK", slot, A), B) == A  # asked this once
    assert servers.address_for(b"x") == C
    servers.forget()
    learn(servers, (0, 16383, B))
    assert servers.address_for(b"x") == B
    assert servers.primaries() == [B]
