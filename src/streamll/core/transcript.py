"""What a run has said so far, by field: tokens joined, corrections applied, superseded text gone.

Events in, text out. A predictor that is called several times has its texts joined in the order
of its calls. Memory: the text of the run.
"""

from __future__ import annotations

from collections.abc import Iterable

from streamll.core.errors import AmbiguousFieldError, UnknownFieldError
from streamll.core.events import (
    NOBODY,
    Event,
    FieldCorrected,
    Identity,
    LMSuperseded,
    TokenEvent,
)

Key = tuple[str | None, str, str | None, int]  # predictor, field, call_id, attempt


class Transcript:
    """``known`` lists output fields as ``predictor → names``; a field not yet seen there is empty."""

    def __init__(self, known: Iterable[tuple[str, Iterable[str]]] = ()) -> None:
        self._known = {(predictor, name) for predictor, names in known for name in names}
        self._texts: dict[Key, list[str]] = {}
        self._growing: tuple[Identity, str, list[str]] = (NOBODY, "", [])  # the last token's text

    def feed(self, event: Event) -> None:
        if isinstance(event, TokenEvent):
            identity, field, parts = self._growing
            if event.identity is not identity or event.field != field:
                parts = self._texts.setdefault(_key(event, event.field), [])
                self._growing = (event.identity, event.field, parts)
            parts.append(event.token)
        elif isinstance(event, FieldCorrected):
            self._growing = (NOBODY, "", [])
            self._texts[_key(event, event.field)] = [event.text]
        elif isinstance(event, LMSuperseded):
            self._growing = (NOBODY, "", [])
            gone = (event.call_id, event.attempt)
            for key in [key for key in self._texts if key[2:] == gone]:
                del self._texts[key]

    def texts(self) -> dict[tuple[str | None, str], str]:
        """All texts so far, by predictor and field, in the order in which they began."""
        joined: dict[tuple[str | None, str], str] = {}
        for key, parts in self._texts.items():
            joined[key[:2]] = joined.get(key[:2], "") + "".join(parts)
        return joined

    def whole(self) -> str:
        """Everything that was said, fields and calls in the order in which they began."""
        return "".join("".join(parts) for parts in self._texts.values())

    def text(self, field: str) -> str:
        """The text of ``field`` so far; ``"predictor.field"`` where several predictors have it.

        Raises:
            AmbiguousFieldError: several predictors have the field; the message lists them.
            UnknownFieldError: no predictor has it.
        """
        seen = {(key[0], key[1]) for key in self._texts} | self._known
        owners = {owner for owner in seen if field in _spellings(owner)}
        if not owners:
            names = ", ".join(sorted({_spellings(owner)[-1] for owner in seen})) or "none yet"
            raise UnknownFieldError(f"no output field {field!r}; there are: {names}")
        if len(owners) > 1:
            names = ", ".join(sorted(_spellings(owner)[-1] for owner in owners))
            raise AmbiguousFieldError(
                f"several predictors have a field {field!r}; ask for one of: {names}"
            )
        owner = owners.pop()
        return "".join("".join(parts) for key, parts in self._texts.items() if key[:2] == owner)


def _key(event: Event, field: str) -> Key:
    return event.predictor, field, event.call_id, event.attempt


def _spellings(owner: tuple[str | None, str]) -> tuple[str, ...]:
    predictor, field = owner
    return (field,) if predictor is None else (field, f"{predictor}.{field}")
