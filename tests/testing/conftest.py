from __future__ import annotations

from collections.abc import Iterator

import pytest
from raw_client import PROMPT, WIRES, RawClient, Received


@pytest.fixture
def client(practice) -> Iterator[RawClient]:
    client = RawClient(practice)
    yield client
    client.close()


@pytest.fixture
def ask(practice):
    """Ask once over a connection of its own."""

    def ask(wire: str = "openai", prompt: str = PROMPT, **options) -> Received:
        client = RawClient(practice)
        try:
            client.send(wire, prompt, **options)
            return client.receive()
        finally:
            client.close()

    return ask


@pytest.fixture
def connect(practice):
    """More connections to the same server, closed at the end."""
    clients = []

    def connect() -> RawClient:
        clients.append(RawClient(practice))
        return clients[-1]

    yield connect
    for client in clients:
        client.close()


@pytest.fixture(params=WIRES)
def wire(request) -> str:
    return request.param
