"""Workers that share the events of many runs: each is handled by one of them.

Two workers count the words of finished answers. One event cannot be handled: it is retried, then
it becomes a dead letter, and the other events are handled as usual.

    python examples/worker_group.py [URL]
"""

from __future__ import annotations

import sys
import tempfile
import threading
import time

import streamll
from streamll import EventConsumer


def main(url: str) -> None:
    counted: dict[str, int] = {}
    done = threading.Event()
    workers = []
    for _ in range(2):
        worker = EventConsumer(
            url, group="counters", start="beginning", retries=2, retry_delay=0.01
        )

        @worker.on("answer.finished")
        def count(event) -> None:
            if event.data["text"] == "?":
                raise ValueError("this is no answer")
            counted[event.data["question"]] = len(event.data["text"].split())
            if len(counted) == 4:
                done.set()

        worker.start()
        worker.wait_connected(30)
        workers.append(worker)

    sink = streamll.open_sink(url)
    with streamll.configure(sinks=[sink]):  # programs of any number of processes would do this
        for question, text in [
            ("one?", "just this"),
            ("two?", "?"),
            ("three?", "three words here"),
            ("four?", "one"),
            ("five?", "and five words for this"),
        ]:
            streamll.emit("answer.finished", question=question, text=text)
    sink.stop()
    done.wait(30)
    deadline = time.monotonic() + 30
    while not sum(w.statistics().dead_lettered for w in workers) and time.monotonic() < deadline:
        time.sleep(0.01)
    for worker in workers:
        worker.stop()
    for question, words in sorted(counted.items()):
        print(f"{question} {words} words")
    print(f"{sum(w.statistics().handled for w in workers)} handled")
    print(f"{sum(w.statistics().dead_lettered for w in workers)} dead letter")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        main(sys.argv[1] if len(sys.argv) > 1 else f"sqlite:///{folder}/log.db")
