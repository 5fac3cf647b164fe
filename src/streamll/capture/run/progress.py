"""How far an evaluation or an optimizer is: sums, without DSPy, clocks or events.

Who adds holds ``order`` until the event of it is published, so that the events of threads tell sums in the
order in which they grew.
"""

from __future__ import annotations

import threading
from collections import defaultdict, deque
from collections.abc import Sequence
from typing import Any


class Evaluation:
    """The examples of one evaluation, in any order. A failed one counts with ``failure_score``."""

    def __init__(self, examples: Sequence[Any], failure_score: float | None) -> None:
        self.total = len(examples)
        self.done = 0
        self.failed = 0
        self._failure_score = failure_score
        self._sum: float | None = 0.0  # unknown once a score is no number
        self.is_over = False  # its end is told: a thread may still be at an example that it gave up
        self.order = threading.Lock()
        self._places: dict[int, deque[int]] = defaultdict(deque)  # an example may be there twice
        for index, example in enumerate(examples):
            self._places[id(example)].append(index)

    def add(
        self, example: Any, score: float | None, *, failed: bool = False
    ) -> dict[str, Any] | None:
        """One more is done: what an ``EvaluateExample`` says of all.

        ``None`` if it was done before, as DSPy runs an example again where it is slow, or is none: a
        metric may have an executor of its own. Or if the evaluation is over.
        """
        places = self._places.get(id(example))
        if self.is_over or not places:
            return None
        index = places.popleft()
        self.done += 1
        self.failed += failed
        counts = self._failure_score if failed else score
        self._sum = None if self._sum is None or counts is None else self._sum + counts
        mean = None if self._sum is None else round(100 * self._sum / self.done, 2)
        return {"index": index, "done": self.done, "mean": mean}


class Compilation:
    """The candidates of one optimizer."""

    def __init__(self) -> None:
        self.candidates = 0
        self.best: float | None = None
        self._best_index = 0
        self._most = 0  # examples that one was evaluated on
        self.order = threading.Lock()

    def add(self, score: float, total: int) -> dict[str, Any]:
        """A candidate with its score on ``total`` examples: what a ``CompileCandidate`` says of all."""
        index = self.candidates
        self.candidates += 1
        is_larger = total > self._most
        if self.best is None or is_larger or (total == self._most and score > self.best):
            self.best, self._best_index, self._most = score, index, total
        return {"index": index, "best": self.best, "best_index": self._best_index}
