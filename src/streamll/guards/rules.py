"""What may not leave: the rules that a caller gives as ``guards=[…]``."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import KW_ONLY, dataclass
from functools import lru_cache, reduce
from math import inf
from typing import Any, ClassVar, Literal

from streamll.core.errors import ConfigurationError
from streamll.guards.automaton import Automaton
from streamll.guards.language import Language
from streamll.guards.regex import Checksum, check_held, language_of
from streamll.guards.units import NAMED
from streamll.guards.words import WordsLanguage

Action = Literal["mask", "drop", "replace", "stop"]
ACTIONS = ("mask", "drop", "replace", "stop")
Verdict = Literal["forbid", "allow"]


@dataclass(frozen=True, kw_only=True)
class Guard:
    """What every rule has: its name, where it holds, and what happens where it finds something.

    ``fields`` are names of fields (``"answer"`` or ``"predictor.answer"``); None is every text of
    every event. ``action`` is ``"mask"`` (``mask`` stands in place of what was found), ``"drop"``
    (the rest of the text is withheld), ``"replace"`` (the text becomes ``mask``) or ``"stop"`` (the
    run ends). With ``result`` the program's own result is masked too.

    Raises: ConfigurationError for an action there is not, or fields that are no names.
    """

    kind: ClassVar[str] = "guard"

    name: str = ""
    fields: Collection[str] | None = None
    action: Action = "mask"
    mask: str = "[redacted]"
    result: bool = False

    def __post_init__(self) -> None:
        if not self.name:
            object.__setattr__(self, "name", self.kind)
        for option in ("name", "mask"):
            if not isinstance(getattr(self, option), str):
                raise ConfigurationError(f"guard {self.name!r}: {option} must be a text")
        if self.action not in ACTIONS:
            raise ConfigurationError(
                f"guard {self.name!r}: action must be one of {', '.join(ACTIONS)}, "
                f"not {self.action!r}"
            )
        object.__setattr__(self, "fields", self._names(self.fields))

    def _names(self, fields: Collection[str] | None) -> frozenset[str] | None:
        if fields is None:
            return None
        is_list = not isinstance(fields, str) and bool(fields)  # with none it would forbid nothing
        if not is_list or not all(isinstance(name, str) and name for name in fields):
            raise ConfigurationError(
                f"guard {self.name!r}: fields must be a list of names, or None for every text, "
                f"not {fields!r}"
            )
        return None if "*" in fields else frozenset(fields)

    def language(self) -> Language | None:
        """What it forbids, to be found as text arrives; None for a rule that is asked otherwise."""
        return None


@dataclass(frozen=True)
class Pattern(Guard):
    """Forbids what a regular expression (``regex``, with ``re``'s ``flags``) matches, wherever it can.

    ``valid`` is a checksum that what was matched must pass as well. A pattern is decided as its text
    arrives, so it may have no backreference, lookaround, atomic group or possessive repeat; with
    ``hold`` it may, and each text is held to its end, where ``re`` finds what it matches.

    Raises: ConfigurationError for what is no pattern, or cannot be decided in this way.
    """

    kind: ClassVar[str] = "pattern"

    regex: str | re.Pattern[str]
    flags: int = 0
    valid: Checksum | None = None
    hold: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "regex", self._compiled())
        if self.hold:
            check_held(self.name, self.compiled)
        else:
            self.language()

    def _compiled(self) -> re.Pattern[str]:
        problem: object = "it must be a text"
        try:
            compiled = re.compile(self.regex, self.flags)
        except (re.error, TypeError, ValueError, OverflowError, RecursionError) as error:
            problem = error
        else:
            if isinstance(compiled.pattern, str):
                return compiled
        raise ConfigurationError(
            f"guard {self.name!r}: {self.regex!r} is no regular expression: {problem}"
        )

    @property
    def compiled(self) -> re.Pattern[str]:
        """The regular expression, compiled."""
        assert isinstance(self.regex, re.Pattern)
        return self.regex

    def language(self) -> Language | None:
        """The pattern's language; None if it is held."""
        return None if self.hold else _pattern_language(self.name, self.compiled, self.valid)

    def spans(self, text: str) -> Iterator[tuple[int, int]]:
        """Where ``re`` finds it in a whole text."""
        found = self.compiled.finditer(text)
        return (match.span() for match in found if match[0] and self._is_valid(match[0]))

    def _is_valid(self, text: str) -> bool:
        if self.valid is None:
            return True
        return bool(self.valid.accepts(reduce(self.valid.step, text, self.valid.start)))


_pattern_language = lru_cache(maxsize=256)(language_of)


@dataclass(frozen=True)
class Words(Guard):
    """Forbids words, whatever their case.

    With ``edges`` (the default) a word that begins or ends with a letter, a digit or an accent is not
    found inside a longer one; between ``_`` it is, as in ``_emphasis_`` or a name. Apart from case a
    word is found as it is written: an ``é`` of two characters is another than that of one.

    Raises: ConfigurationError if there are none, or one is empty.
    """

    kind: ClassVar[str] = "words"

    words: Collection[str]
    edges: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.words, str):
            raise ConfigurationError(f"guard {self.name!r}: words must be a list, not one text")
        words = frozenset(self.words)
        if not words or not all(isinstance(word, str) and word for word in words):
            raise ConfigurationError(
                f"guard {self.name!r}: words must be texts, at least one, and none of them empty"
            )
        object.__setattr__(self, "words", words)

    def language(self) -> Language:
        """One tree of all the words."""
        return _words_language(frozenset(self.words), self.edges)


@lru_cache(maxsize=64)
def _words_language(words: frozenset[str], edges: bool) -> Language:
    return WordsLanguage(words, edges=edges)


@dataclass(frozen=True, eq=False)
class Check(Guard):
    """Asks a function about each part of a text, and holds it back until the function has answered.

    ``function(text)`` returns True if the text may leave, or False. It may be a coroutine function, or
    return an awaitable. Text leaves only where it says so in time: it is withheld if the function
    returns anything else or raises (unless ``when_failed="allow"``), or takes longer than ``timeout``
    seconds (unless ``when_late="allow"``). What is found then is the whole part.

    ``unit`` is what it is asked about: each ``"sentence"`` or ``"line"``, a whole ``"field"``, or so many
    characters. Sentences end at a newline, and at ``. ! ? …`` with the quotes and brackets behind
    it where white space follows; one of 2,000 characters is cut there. Neither sentences nor lines
    include the white space around them. Whatever other guards find has been taken out before, and no
    run asks about the same part twice. Numbers, and keys that are single words, are not asked about; the
    raw text of a value in JSON is when it is complete, by the texts in it.

    A sync function is called in a thread. An async one runs on the event loop of the program, if
    that is async, else on one in the background. What it calls is not part of the run, and no sink
    gets it. While it is asked, what follows of the same call waits for it, and so does the end of the
    run; the program goes on.

    Raises: ConfigurationError for a function that cannot be called, a unit there is not, a timeout
    that is no time.
    """

    kind: ClassVar[str] = "check"

    function: Callable[[str], Any]
    _: KW_ONLY
    unit: Literal["sentence", "line", "field"] | int = "sentence"
    timeout: float = 5.0
    when_late: Verdict = "forbid"
    when_failed: Verdict = "forbid"

    __eq__ = object.__eq__  # functions need not be hashable
    __hash__ = object.__hash__

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require("function", callable(self.function), "a function of one text")
        is_count = type(self.unit) is int and self.unit >= 1
        units = f"{', '.join(map(repr, NAMED))} or a number of characters from 1 on"
        self._require(
            "unit", is_count or (isinstance(self.unit, str) and self.unit in NAMED), units
        )
        is_number = isinstance(self.timeout, int | float) and self.timeout is not True
        self._require("timeout", is_number and 0 < self.timeout < inf, "seconds, more than 0")
        for option in ("when_late", "when_failed"):
            is_known = getattr(self, option) in ("forbid", "allow")
            self._require(option, is_known, "'forbid' or 'allow'")

    def _require(self, option: str, holds: bool, what: str) -> None:
        if not holds:
            raise ConfigurationError(
                f"guard {self.name!r}: {option} must be {what}, not {getattr(self, option)!r}"
            )


class Ruleset:
    """Several ``guards`` as one automaton; those that must see a whole text stand in ``held``."""

    def __init__(self, guards: tuple[Guard, ...]) -> None:
        self.guards = guards
        found = [(guard, guard.language()) for guard in guards]
        self.found = tuple(guard for guard, language in found if language is not None)
        """The guards of the automaton's rules, by their number."""
        self.automaton = Automaton([language for _, language in found if language is not None])
        self.held = tuple(guard for guard in guards if isinstance(guard, Pattern) and guard.hold)


@lru_cache(maxsize=128)
def ruleset(guards: tuple[Guard, ...]) -> Ruleset:
    """The rules of some guards as one; what was made once is kept."""
    return Ruleset(guards)
