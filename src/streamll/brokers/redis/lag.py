"""How many entries of a Redis stream are ahead of a reader: its lag.

Redis knows that only of groups, and not of all of them. So the entries are counted, each once, in
pages and on the server: the script's answer is a number, however large the entries are.
"""

from __future__ import annotations

from typing import Any

PAGE = 1000
COUNT_PAGE = """
local page = redis.call('XRANGE', KEYS[1], ARGV[1], '+', 'COUNT', ARGV[2])
return {#page, #page > 0 and page[#page][1] or ''}
"""


class RedisLag:
    """Entries between a reader and the last one that was counted, the mark."""

    def __init__(self, key: str) -> None:
        self._key = key
        self._mark: str | None = None
        self._count = 0

    def read(self, entries: int, after: str) -> None:
        """The reader has come to ``after`` with so many entries."""
        if self._mark is None or place_of(after) >= place_of(self._mark):
            self._mark, self._count = after, 0
        else:
            self._count -= entries

    async def count(self, client: Any, after: str | None) -> int:
        """Count what has come since the last time; how much is ahead of ``after`` in all."""
        self._mark = self._mark or after or "0-0"
        found = PAGE
        while found == PAGE:
            mark = self._mark
            found, last = await client.eval(COUNT_PAGE, 1, self._key, f"({mark}", PAGE)
            if mark != self._mark:  # the reader has overtaken it meanwhile
                found = PAGE
            elif found:
                self._mark, self._count = last.decode(), self._count + found
        length: int = await client.xlen(self._key)
        return min(self._count, length)  # some may be trimmed, unread


def is_place(entry_id: str) -> bool:
    return all(part.isdecimal() for part in entry_id.split("-", 1))


def place_of(entry_id: str) -> tuple[int, int]:
    """An entry's id as what it is sorted by."""
    milliseconds, _, number = entry_id.partition("-")
    return int(milliseconds), int(number or 0)
