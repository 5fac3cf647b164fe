"""``streamll probe``: whether models really stream."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from shutil import get_terminal_size
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Exit, Option

from streamll.cli.command import FAILED, BaseURL, Problem
from streamll.cli.models import chat_model
from streamll.terminal.text import cells, clean, fold, one_line, seconds
from streamll.terminal.values import COLUMN_GAP, table_row

if TYPE_CHECKING:
    from streamll.chat.model import iModel
    from streamll.chat.probe import Probe
    from streamll.testing.probing import Listening

HEADINGS = ("Model", "Verdict", "Chunks", "First token", "Tokens/s", "Mean chunk", "Total")
SIGNS = {"excellent": "✅", "good": "✅", "partial": "⚠️ ", "limited": "⚠️ ", "failed": "❌"}
ARE_NUMBERS = [heading not in ("Model", "Verdict") for heading in HEADINGS]
"""Which columns are aligned right."""


def probe(
    models: Annotated[
        list[str],
        Argument(metavar="MODEL...", help="provider/model, e.g. openai/gpt-4o-mini; or practice."),
    ],
    base_url: BaseURL = None,
    question: Annotated[str | None, Option(help="What to ask instead.")] = None,
    as_json: Annotated[bool, Option("--json", help="Print JSON.")] = False,
    record: Annotated[
        Path | None,
        Option(help="Keep what the providers send in this file, without keys, for a bug report."),
    ] = None,
    without_texts: Annotated[
        bool, Option("--without-texts", help="Mask what the frames repeat of the question, too.")
    ] = False,
) -> None:
    """Find out whether models really stream. Exit code 0 if all of them do, 1 if not."""
    import msgspec

    from streamll.chat.probe import QUESTION
    from streamll.testing.probing import listening

    with ExitStack() as stack:
        opened = [stack.enter_context(chat_model(name, base_url)) for name in models]
        if not as_json:
            listing = ", ".join(model.name for model in opened)
            print(f"Asking {one_line(listing)} …", file=sys.stderr, flush=True)
        heard = stack.enter_context(listening())
        probes = asyncio.run(_all(opened, question or QUESTION, heard))
        if record is not None:
            _keep(heard, record, without_texts=without_texts)
    if as_json:
        print(msgspec.json.format(msgspec.json.encode(probes), indent=2).decode())
    else:
        print(in_table(probes, get_terminal_size().columns))
    if not all(probe.verdict.streams for probe in probes):
        raise Exit(FAILED)


def _keep(heard: Listening, path: Path, *, without_texts: bool) -> None:
    try:
        heard.keep(path, without_texts=without_texts)
    except OSError as error:
        raise Problem(f"cannot write {path}: {error.strerror}", FAILED) from error


async def _all(models: Sequence[iModel], question: str, heard: Listening) -> list[Probe]:
    try:
        return await asyncio.gather(*(_one(model, question, heard) for model in models))
    finally:
        for model in models:
            await model.aclose()


async def _one(model: iModel, question: str, heard: Listening) -> Probe:
    import msgspec

    from streamll.chat.probe import probe

    with heard.asking() as numbers:
        found = await probe(model, question)
    return msgspec.structs.replace(found, oddities=tuple(heard.oddities(numbers)))


def in_table(probes: Sequence[Probe], width: int) -> str:
    """One row per model if that fits the width, otherwise a block of lines per model."""
    rows = [HEADINGS, *map(cells_of, probes)]
    widths = [max(map(cells, column)) for column in zip(*rows, strict=True)]
    if sum(widths) + len(COLUMN_GAP) * (len(widths) - 1) <= width:
        rows.insert(1, tuple("─" * width for width in widths))
        lines = [table_row(row, widths, ARE_NUMBERS) for row in rows]
    else:
        lines = [line for row in rows[1:] for line in _block(row)]
    notes = [note for probe in probes for note in _notes(probe)]
    return "\n".join([*lines, "", *(line for note in notes for line in fold(clean(note), width))])


def _notes(probe: Probe) -> Iterator[str]:
    """The verdict in words, and what is unusual about the frames."""
    said = one_line(probe.error or probe.note)
    yield f"{SIGNS[probe.verdict.value]} {one_line(probe.model)}: {said}"
    if probe.oddities:
        yield f"   unusual: {one_line('; '.join(probe.oddities))}"


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


def _block(row: Sequence[str]) -> list[str]:
    label = max(map(len, HEADINGS))
    pairs = zip(HEADINGS[1:], row[1:], strict=True)
    return [row[0], *(f"  {heading:{label}} {cell}" for heading, cell in pairs)]
