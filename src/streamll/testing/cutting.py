"""Ways to cut a text into chunks, including those that no provider would choose."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Literal

Chunk = int | Literal["token", "whole"]
"""A chunk size: a number of characters, ``"token"`` (about as a tokenizer cuts) or ``"whole"``."""

TOKEN = re.compile(r" ?\w+| ?[^\w\s]+|\s+")


def cut(text: str, chunk: Chunk) -> list[str]:
    """``text`` in chunks of one size. No chunk is empty, and joined they are ``text``.

    Raises ``ValueError`` for a size that is none.

    >>> cut("Machine learning, briefly", "token")
    ['Machine', ' learning', ',', ' briefly']
    >>> cut("abcdefg", 3)
    ['abc', 'def', 'g']
    """
    if chunk == "token":
        return TOKEN.findall(text)
    if chunk == "whole":
        return [text] if text else []
    if not isinstance(chunk, int) or chunk < 1:
        raise ValueError(f'chunk is a positive number, "token" or "whole", not {chunk!r}')
    return [text[start : start + chunk] for start in range(0, len(text), chunk)]


def chunkings(text: str, *, random_cuts: int = 3, seed: int = 0) -> Iterator[list[str]]:
    """``text`` cut in every way that a stream's reader should cope with.

    Whole, by single characters, by three characters, by tokens, and in ``random_cuts`` random
    ways, repeatable by their ``seed``. A reader must give the same result for all of them.

    Examples:
        >>> [len(chunks) for chunks in chunkings("a stream", random_cuts=0)]
        [1, 8, 3, 2]
    """
    yield from (cut(text, "whole"), cut(text, 1), cut(text, 3), cut(text, "token"))
    generator = random.Random(seed)  # noqa: S311 - repeatable cuts, not secrets
    for _ in range(random_cuts):
        inside = range(1, len(text))
        places = sorted(generator.sample(inside, generator.randint(0, len(inside))))
        yield [text[a:b] for a, b in pairwise([0, *places, len(text)]) if a < b]
