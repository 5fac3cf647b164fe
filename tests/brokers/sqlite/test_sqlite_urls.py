"""What an SQLite URL may say besides the file's name."""

from __future__ import annotations

import pytest

from brokers.sample_runs import BOUND, ends, make_run, read_log
from streamll.brokers.sqlite.sink import SQLiteSink
from streamll.core.errors import ConfigurationError
from streamll.sinks import open_sink


def test_options_of_a_url_are_the_sinks_and_no_part_of_the_files_name(tmp_path):
    url = f"sqlite:///{tmp_path}/log.db?keep_seconds=60&synchronous=full"
    sink = open_sink(url)
    assert (sink.path, sink.keep_seconds, sink.synchronous) == (f"{tmp_path}/log.db", 60.0, "FULL")
    run = make_run("r1", "ab")
    for event in run:
        sink.put(event)
    assert sink.stop(BOUND)
    assert [path.name for path in tmp_path.iterdir()] == ["log.db"]
    assert read_log(url, sink.target, ends(1)) == run


def test_a_plain_path_may_have_a_question_mark(tmp_path):
    assert SQLiteSink(tmp_path / "what?.db").path == f"{tmp_path}/what?.db"


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("keep=60", "has no option 'keep'; there are keep_seconds, synchronous"),
        ("keep_seconds=", "could not convert"),
        ("keep_seconds=-1", "keep_seconds must be greater than 0"),
        ("keep_seconds=nan", "keep_seconds must be greater than 0"),
        ("synchronous=OFF", "NORMAL or FULL, not 'OFF'"),
    ],
)
def test_an_option_that_cannot_work_is_refused(tmp_path, query, message):
    with pytest.raises(ConfigurationError, match=message):
        open_sink(f"sqlite:///{tmp_path}/log.db?{query}")
    assert list(tmp_path.iterdir()) == []


def test_an_option_is_given_once(tmp_path):
    url = f"sqlite:///{tmp_path}/log.db?keep_seconds=60"
    assert open_sink(url, keep_seconds=60).keep_seconds == 60
    with pytest.raises(TypeError, match="keep_seconds= has another value in the URL"):
        open_sink(url, keep_seconds=61)
