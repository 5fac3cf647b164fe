"""Values that satisfy a JSON schema: valid and repeatable, but without meaning."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from streamll.testing.model.field_types import Schema

TEXTUAL = re.compile(
    r"name|title|text|desc|summary|city|country|street|answer|reason|label|word|tag|topic|note"
)
FORMATS = {
    "date": "2025-01-01",
    "date-time": "2025-01-01T12:00:00",
    "time": "12:00:00",
    "uuid": "00000000-0000-4000-8000-000000000000",
    "email": "practice@example.com",
    "uri": "https://example.com",
}
MAX_DEPTH = 6  # of the schemas inside schemas that are filled in


@dataclass
class Sampler:
    """Takes texts from ``words`` in turn, and numbers by counting up from ``number``."""

    words: list[str]
    number: int = 3
    definitions: dict[str, Schema] = field(default_factory=dict)
    depth: int = 0

    def sample(self, schema: Schema, name: str = "") -> Any:
        self.definitions |= schema.get("$defs", {})
        self.depth += 1
        value = self._sample(schema, name)
        self.depth -= 1
        return value

    def _sample(self, schema: Schema, name: str) -> Any:
        if "$ref" in schema:
            return self.sample(self.definitions.get(schema["$ref"].rpartition("/")[2], {}), name)
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return schema["enum"][self.number % len(schema["enum"])]
        for key in ("anyOf", "oneOf", "allOf"):
            if schema.get(key):
                return self.sample(self.likeliest(schema[key]), name)
        makers: dict[str, Callable[[Schema, str], Any]] = {
            "integer": self.integer,
            "number": self.decimal,
            "boolean": lambda *_: self.number % 2 == 1,
            "null": lambda *_: None,
            "array": self.array,
            "object": self.object,
            "unknown": self.anything,
        }
        kind = schema.get("type", "string")
        return makers.get(kind if isinstance(kind, str) else kind[0], self.text)(schema, name)

    def likeliest(self, options: list[Schema]) -> Schema:
        """The first that is not null, unless a recursive type has to end."""
        null = [option for option in options if option.get("type") == "null"]
        if null and self.depth > MAX_DEPTH:
            return null[0]
        return next((option for option in options if option not in null), options[0])

    def integer(self, schema: Schema, name: str) -> int:
        self.number += 1
        low = schema.get("minimum", schema.get("exclusiveMinimum", -1) + 1)
        high = schema.get("maximum", schema.get("exclusiveMaximum", low + 1_000) - 1)
        return int(min(max(self.number, low), high))

    def decimal(self, schema: Schema, name: str) -> float:
        low, high = schema.get("minimum"), schema.get("maximum")
        if low is not None and high is not None:
            return float(low + high) / 2
        return self.integer(schema, name) + 0.5

    def text(self, schema: Schema, name: str) -> str:
        if schema.get("format") in FORMATS:
            return FORMATS[schema["format"]]
        self.number += 1
        words = self.words or ["practice"]
        text = words[self.number % len(words)]
        return text.ljust(schema.get("minLength", 0), ".")[: schema.get("maxLength")]

    def anything(self, schema: Schema, name: str) -> str:
        """A leaf of unknown type: a digit is valid both as a text and as a number."""
        return self.text(schema, name) if TEXTUAL.search(name.lower()) else "1"

    def array(self, schema: Schema, name: str) -> list[Any]:
        if prefix := schema.get("prefixItems"):
            return [self.sample(each, name) for each in prefix]
        count = 1 if self.depth > 1 else 3
        count = min(max(count, schema.get("minItems", 0)), schema.get("maxItems", count + 1_000))
        if self.depth > MAX_DEPTH:
            count = schema.get("minItems", 0)
        return [self.sample(schema.get("items", {}), name) for _ in range(count)]

    def object(self, schema: Schema, name: str) -> dict[str, Any]:
        properties = schema.get("properties", {})
        if not properties and isinstance(schema.get("additionalProperties"), dict):
            return {word: self.sample(schema["additionalProperties"]) for word in self.words[:2]}
        return {key: self.sample(value, key) for key, value in properties.items()}
