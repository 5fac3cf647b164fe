"""Typed fields: µs per chunk of ours, of ``dspy.streamify`` and of parsing everything again.

    python bench/partials.py            all sizes
    python bench/partials.py 200 2000   these numbers of chunks

Every way reads the same reply in the same chunks: a JSON object whose typed field is an object of
1,000 members, a list of 1,000 objects, nested models, or an object of two long texts. "Again" means what a program does
without an incremental reader: parse all text so far after each chunk. It grows with the square
of the reply, so for 20,000 chunks it is measured at 200 places, evenly spread, and added up.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import jiter
import pydantic
import pydantic_core
from dspy.streaming.streaming_listener import StreamListener

from streamll.capture.typed.partial_form import partial_form
from streamll.core.events import FieldPartial
from streamll.core.parsing.base import Text
from streamll.core.parsing.json import JSONParser
from streamll.core.parsing.values.json import JSONValueReader
from streamll.core.parsing.values.schema import SchemaView
from streamll.core.partials import PartialValue

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "true")
clock = time.thread_time  # CPU: other work on the machine does not count
SIZES = (200, 2_000, 20_000)
CHUNK = 5
SAMPLES = 200


class Part(pydantic.BaseModel):
    name: str
    price: float
    count: int


class Section(pydantic.BaseModel):
    title: str
    parts: list[Part]
    notes: dict[str, str]


class Document(pydantic.BaseModel):
    summary: str
    sections: list[Section]


def part(number: int) -> dict[str, Any]:
    return {"name": f"part {number}", "price": number + 0.5, "count": number}


def flat(length: int) -> Any:
    """A list of objects of ``length`` characters of JSON; 1,000 of them if they are long."""
    count = min(1_000, max(1, length // 50))
    text = "x" * max(0, length // count - 48)
    return [{**part(number), "name": f"part {number} {text}"} for number in range(count)]


def members(length: int) -> Any:
    count = min(1_000, max(1, length // 40))
    text = "x" * max(0, length // count - 36)
    return {f"member {number}": f"value {number} {text}" for number in range(count)}


def texts(length: int) -> Any:
    words = "Machine learning is a subset of artificial intelligence. "
    return {"a": (words * (length // 114 + 1)), "b": (words * (length // 114 + 1))}


def nested(length: int) -> Any:
    sections = max(1, length // 500)
    return {
        "summary": "All of it.",
        "sections": [
            {
                "title": f"Section {number}",
                "parts": [part(n) for n in range(6)],
                "notes": {"first": "short", "second": "a little longer than the first"},
            }
            for number in range(sections)
        ],
    }


SHAPES: dict[str, tuple[Callable[[int], Any], Any]] = {
    "1,000 members": (members, dict[str, str]),
    "1,000 objects": (flat, list[Part]),
    "nested models": (nested, Document),
    "two long texts": (texts, dict[str, str]),
}


def chunks_of(value: Any, count: int) -> list[str]:
    """``count`` chunks of the JSON text of an object with one field."""
    text = json.dumps({"value": value})
    size = max(1, len(text) // count)
    cut = [text[start : start + size] for start in range(0, len(text), size)]
    return [*cut[: count - 1], "".join(cut[count - 1 :])]


# --- the ways -----------------------------------------------------------------------------------


def ours(chunks: list[str], annotation: Any) -> float:
    """The field's text, its changes, and a reader that puts them together."""
    shape = SchemaView.of(pydantic.TypeAdapter(annotation).json_schema())
    parser, reader, value = JSONParser({"value": False}), JSONValueReader(shape), PartialValue()
    began = clock()
    for chunk in chunks:
        for piece in parser.feed(chunk):
            if isinstance(piece, Text):
                for place, part_, state, append in reader.feed(piece.text):
                    value.apply(
                        FieldPartial(
                            field="value", value=part_, state=state, pointer=place, append=append
                        )
                    )
    return (clock() - began) / len(chunks)


def again(parse: Callable[[str], Any]) -> Callable[[list[str], Any], float]:
    def measure(chunks: list[str], annotation: Any) -> float:
        step = max(1, len(chunks) // SAMPLES)
        text, taken, count = "", 0.0, 0
        for number, chunk in enumerate(chunks):
            text += chunk
            if number % step == 0:
                began = clock()
                parse(text)
                taken += clock() - began
                count += 1
        return taken / count

    return measure


def validated(chunks: list[str], annotation: Any) -> float:
    """pydantic-core's partial mode, and the partial form of the type."""
    adapter = pydantic.TypeAdapter(partial_form(annotation))

    def parse(text: str) -> Any:
        value = pydantic_core.from_json(text, allow_partial="trailing-strings")
        return adapter.validate_python(value["value"]) if "value" in value else None

    return again(parse)(chunks, annotation)


def streamify(chunks: list[str], annotation: Any) -> float | None:
    """The listener of ``dspy.streamify``: text fragments of the field, no values."""
    import dspy
    from litellm.types.utils import Delta, ModelResponseStream, StreamingChoices

    signature = dspy.Signature({"question": (str, dspy.InputField())}).append(
        "value", dspy.OutputField(), annotation
    )
    listener = StreamListener("value", predict=dspy.Predict(signature), predict_name="self")
    given = [
        ModelResponseStream(choices=[StreamingChoices(delta=Delta(content=chunk))])
        for chunk in chunks
    ]
    step = max(1, len(chunks) // 2_000)
    taken, count = 0.0, 0
    with dspy.context(adapter=dspy.JSONAdapter()):
        limit = clock() + 60
        for number, chunk in enumerate(given):
            began = clock()
            listener.receive(chunk)
            if number % step == 0:
                taken += clock() - began
                count += 1
            if clock() > limit:
                return None
    return taken / count


WAYS: dict[str, Callable[[list[str], Any], float | None]] = {
    "streamll": ours,
    "dspy.streamify": streamify,
    "jiter again": again(lambda text: jiter.from_json(text.encode(), partial_mode=True)),
    "pydantic-core again": again(
        lambda text: pydantic_core.from_json(text, allow_partial="trailing-strings")
    ),
    "  and validated": validated,
}


def least(run: Callable[[list[str], Any], float | None], chunks: list[str], annotation: Any) -> Any:
    """The least of some rounds; slow ways get one."""
    first = run(chunks, annotation)
    if first is None or first * len(chunks) > 0.5:
        return first
    return min([first, *(run(chunks, annotation) for _ in range(2))], key=lambda cost: cost or 0)


def rows(sizes: tuple[int, ...]) -> Iterator[tuple[str, int, dict[str, float | None]]]:
    for name, (make, annotation) in SHAPES.items():
        for count in sizes:
            chunks = chunks_of(make(count * CHUNK), count)
            yield (
                name,
                len(chunks),
                {way: least(run, chunks, annotation) for way, run in WAYS.items()},
            )


def main(*sizes: int) -> None:
    print("µs of CPU per chunk; in brackets, how many times ours\n")
    print(f"{'reply':<15}{'chunks':>8}  " + "".join(f"{way:>22}" for way in WAYS))
    for name, count, costs in rows(sizes or SIZES):
        base = costs["streamll"] or 1.0
        cells = [
            f"{'over 60 s':>22}"
            if cost is None
            else f"{cost * 1e6:>13.2f} {f'({cost / base:.0f})':>8}"
            for cost in costs.values()
        ]
        print(f"{name:<15}{count:>8}  " + "".join(cells), flush=True)


if __name__ == "__main__":
    main(*(int(size) for size in sys.argv[1:]))
