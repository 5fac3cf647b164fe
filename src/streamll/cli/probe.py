"""``streamll probe``: tells whether a model really streams."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from shutil import get_terminal_size
from typing import TYPE_CHECKING

from streamll.cli.models import PACE
from streamll.cli.talking import model_to_talk_to
from streamll.terminal.text import cells, clean, one_line, seconds
from streamll.terminal.wrap import fold

if TYPE_CHECKING:
    from streamll.chat.model import iModel
    from streamll.chat.probe import Probe

HEADINGS = ("Model", "Verdict", "Chunks", "First token", "Tokens/s", "Mean chunk", "Total")
SIGNS = {"excellent": "✅", "good": "✅", "partial": "⚠️ ", "limited": "⚠️ ", "failed": "❌"}
GAP = "  "


def run_probe(
    names: Sequence[str], base_url: str | None, question: str | None, *, as_json: bool
) -> bool:
    """Ask all of them at once and print what was found; whether all of them stream."""
    from streamll.chat.probe import QUESTION

    with ExitStack() as open_models:
        models = [
            open_models.enter_context(model_to_talk_to(name, base_url, PACE)) for name in names
        ]
        if not as_json:
            listing = ", ".join(model.name for model in models)
            print(f"Asking {one_line(listing)} …", file=sys.stderr, flush=True)
        probes = asyncio.run(_all(models, question or QUESTION))
    print(in_json(probes) if as_json else in_table(probes, get_terminal_size().columns))
    return all(probe.verdict.streams for probe in probes)


async def _all(models: Sequence[iModel], question: str) -> list[Probe]:
    from streamll.chat.probe import probe

    try:
        return await asyncio.gather(*(probe(model, question) for model in models))
    finally:
        for model in models:
            await model.aclose()


def in_json(probes: Sequence[Probe]) -> str:
    import msgspec

    return msgspec.json.format(msgspec.json.encode(probes), indent=2).decode()


def in_table(probes: Sequence[Probe], width: int) -> str:
    """A row each where that fits, else a few lines each."""
    rows = [HEADINGS, *map(cells_of, probes)]
    widths = [max(cells(row[i]) for row in rows) for i in range(len(HEADINGS))]
    if sum(widths) + len(GAP) * (len(widths) - 1) <= width:
        lines = [_row(row, widths) for row in rows]
        lines.insert(1, GAP.join("─" * w for w in widths))
    else:
        lines = [line for row in rows[1:] for line in _block(row)]
    notes = [f"{SIGNS[p.verdict.value]} {p.model}: {_note(p)}" for p in probes]
    return "\n".join([*lines, "", *(line for note in notes for line in fold(clean(note), width))])


def cells_of(probe: Probe) -> tuple[str, ...]:
    return (
        one_line(probe.model, 60),
        probe.verdict.value,
        str(probe.chunks),
        "–" if probe.time_to_first_token is None else seconds(probe.time_to_first_token),
        "–" if probe.tokens_per_second is None else f"{probe.tokens_per_second:,.0f}",
        "–" if probe.mean_chunk is None else f"{probe.mean_chunk:.1f} chars",
        seconds(probe.duration),
    )


def _note(probe: Probe) -> str:
    return probe.note if probe.error is None else one_line(probe.error)


def _row(row: Sequence[str], widths: Sequence[int]) -> str:
    texts = [
        cell + " " * (w - cells(cell)) if place < 2 else " " * (w - cells(cell)) + cell  # noqa: PLR2004
        for place, (cell, w) in enumerate(zip(row, widths, strict=True))
    ]
    return GAP.join(texts).rstrip()


def _block(row: Sequence[str]) -> list[str]:
    label = max(map(len, HEADINGS))
    return [
        row[0],
        *(
            f"  {heading:{label}} {cell}"
            for heading, cell in zip(HEADINGS[1:], row[1:], strict=True)
        ),
    ]
