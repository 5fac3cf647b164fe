"""Models that ask the practice server, over each of its wires."""

from __future__ import annotations

import asyncio

import pytest

LIMIT = 60
"""Seconds within which anything here ends, or the test fails instead of hanging."""
WIRES = ("openai", "responses", "anthropic", "gemini")


@pytest.fixture
def make_model(practice):
    """``make_model(wire, **options)``: an ``iModel`` that asks the practice server."""
    from streamll.services import iModel

    made = []

    def make(wire="openai", **options):
        if wire == "anthropic":
            places = {"provider": "anthropic", "base_url": practice.anthropic_url}
        elif wire == "gemini":
            places = {"provider": "gemini", "base_url": practice.gemini_url}
        else:
            endpoint = "responses" if wire == "responses" else "chat"
            places = {"provider": "openai", "endpoint": endpoint, "base_url": practice.openai_url}
        model = iModel(**{"model": "practice-model", **places, **options})
        made.append(model)
        return model

    yield make
    for model in made:
        model.close()


@pytest.fixture
def run():
    """Run a coroutine in an event loop of its own, within a limit."""
    return lambda coroutine: asyncio.run(asyncio.wait_for(coroutine, LIMIT))
