"""Random streams of every wire: the reply is right, or it is an error or asked for again.

``bench/fuzz_wires.py`` runs the same checks on a million streams.
"""

from __future__ import annotations

import pytest
from fuzz_checks import CHECKS
from fuzzing import WRITERS
from hypothesis import given, settings
from hypothesis import strategies as st
from profiles import THOROUGH

pytestmark = pytest.mark.since_3_4

SEEDS = st.integers(0, 2**64 - 1)
STREAMS = 600 if THOROUGH else 15
"""For each check and wire: with the wires there are, more than 10,000 where the run is thorough."""


@pytest.mark.parametrize("writer", WRITERS, ids=lambda writer: writer.name)
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_random_streams(check, writer):
    @settings(max_examples=STREAMS)
    @given(SEEDS)
    def run(seed):
        check(writer, seed)

    run()
