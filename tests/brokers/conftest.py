"""Brokers for the contract: one server of each kind for the whole test run."""

from __future__ import annotations

import pytest

from brokers.backends import BACKENDS, Backend, backend_of


@pytest.fixture(params=BACKENDS)
def backend(request, server_of, tmp_path) -> Backend:
    return backend_of(request.param, server_of, tmp_path)
