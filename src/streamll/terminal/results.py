"""What an evaluation or optimizer has come to, as a table: its lowest scores, its latest candidates."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from streamll.core import events as ev
from streamll.terminal import text as tx
from streamll.terminal import values, words

MAX_ROWS = 10


@dataclass(slots=True, eq=False)
class ResultTable:
    """Rows, and their lines at some width; has the interface of ``WrappedText``."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    _order: list[tuple[float, int]] = field(default_factory=list)

    def add_example(self, event: ev.EvaluateExample) -> None:
        """Keep it if it is among those with the lowest scores; failed ones come first."""
        score = float("-inf") if event.score is None else event.score
        key = (score, event.index)
        place = sum(other < key for other in self._order)
        row: dict[str, Any] = {
            "example": event.index + 1,
            "score": "" if event.score is None else round(event.score, 4),
            "time": tx.seconds(event.duration),
        }
        if event.inputs:
            row["inputs"] = tx.arguments(event.inputs, values.MAX_CELL)
        if event.error_type:
            row["error"] = words.error(event)
        self._order.insert(place, key)
        self.rows.insert(place, row)
        del self._order[MAX_ROWS:], self.rows[MAX_ROWS:]

    def add_candidate(self, event: ev.CompileCandidate) -> None:
        """Keep it, and of those before it the latest ones and the best."""
        for row in self.rows:
            row["best"] = "best" if row["candidate"] == event.best_index + 1 else ""
        is_best = event.index == event.best_index
        self.rows.append(
            {
                "candidate": event.index + 1,
                "score": round(event.score, 2),
                "examples": event.total,
                "time": tx.seconds(event.duration),
                "best": "best" if is_best else "",
            }
        )
        if len(self.rows) > MAX_ROWS:
            del self.rows[1 if self.rows[0]["best"] else 0]

    def append(self, text: str) -> None:
        """There is no text in a table."""

    replace = append

    @property
    def length(self) -> int:
        return len(self.rows)

    def ending(self, length: int) -> str:
        """The last row, for a view of one line."""
        return tx.compact(self.rows[-1], length) if self.rows else ""

    def lines(self, width: int) -> list[str]:
        names = list(dict.fromkeys(name for row in self.rows for name in row))
        rows = [{name: row.get(name, "") for name in names} for row in self.rows]
        return values.drawn(rows, width) if rows else [""]
