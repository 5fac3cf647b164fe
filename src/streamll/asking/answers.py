"""What an answer may be: its JSON Schema, and how it becomes the program's value.

An answer comes from outside, as JSON. It is checked against the schema first, by whoever has it,
also where the program does not run; then the program's process makes the value of it that the
program asked for (a date, a member of an enum, a model), which may find more that is wrong.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from streamll.core.errors import ConfigurationError, WrongAnswer
from streamll.core.jsonable import MAX_DEPTH, plain
from streamll.core.problems import Problem, pointer

if TYPE_CHECKING:
    from pydantic import TypeAdapter

    from streamll.core.events import Event

PLACE = "answer"
QUOTED = 200
"""Characters that are told of what is wrong: it may quote the answer."""

PROBLEMS = 100
"""Of an answer that is wrong in more places, these are looked for."""


class AnswerType:
    """What the answers to a question may be.

    Args:
        schema: a type that pydantic reads (``bool``, ``Literal["a", "b"]``, a model, …), or a JSON
            Schema (2020-12) as a mapping, whole: nothing that it refers to is fetched. The value is
            then the JSON itself.

    Raises:
        ConfigurationError: it is neither.
    """

    def __init__(self, schema: Any) -> None:
        self._adapter: TypeAdapter[Any] | None = None
        self.tell: Callable[[str], str] = str
        """Makes of what is wrong, which may quote the schema, what may be told of it."""
        if isinstance(schema, Mapping):
            self.schema = dict(schema)
            _check_schema(self.schema)
        else:
            self._adapter, self.schema = _adapter_and_schema(schema)

    def convert(self, answer: Any, question: Event | None = None) -> Any:
        """The program's value of an answer; ``WrongAnswer`` if it cannot be one.

        ``question`` is what the one who answers has seen of it, where that is known.
        """
        check(self.schema, answer, self.tell)
        if self._adapter is None:
            return answer
        return self.validated(PLACE, self._adapter.validate_json, json.dumps(answer))

    def validated(self, place: str, validate: Callable[[Any], Any], answer: Any) -> Any:
        """What ``validate``, of pydantic, makes of an answer; ``WrongAnswer`` if it makes nothing of it."""
        from pydantic import ValidationError

        try:
            return validate(answer)
        except ValidationError as error:
            told = error.errors(include_url=False, include_context=False, include_input=False)
            raise WrongAnswer(
                Problem(pointer(place, each["loc"]), _short(self.tell(each["msg"])))
                for each in told[:PROBLEMS]
            ) from None
        except Exception as error:
            name = type(error).__name__
            raise WrongAnswer([Problem(place, f"the program cannot take it ({name})")]) from error

    def told(self, value: Any) -> Any:
        """A value as events have it. A default may be of any type."""
        if self._adapter is None:
            return plain(value)
        try:
            return self._adapter.dump_python(value, mode="json", warnings=False)
        except Exception:  # noqa: BLE001 - pydantic has errors of its own, serializers have theirs
            return plain(value)


def check(schema: Mapping[str, Any], answer: Any, tell: Callable[[str], str] = str) -> None:
    """Check an answer against its schema; ``WrongAnswer`` names each place where it differs."""
    if _is_deep(answer):
        raise WrongAnswer([Problem(PLACE, f"nested more than {MAX_DEPTH} levels deep")])
    try:
        json.dumps(answer, allow_nan=False)
        errors = itertools.islice(_validator_of(schema).iter_errors(answer), PROBLEMS)
        found = sorted(errors, key=lambda each: list(map(str, each.path)))
    except (TypeError, ValueError) as error:
        raise WrongAnswer([Problem(PLACE, f"not JSON: {error}")]) from None
    except _dangling() as error:
        raise WrongAnswer([Problem("schema", f"cannot be checked: {error}")]) from None
    except BaseException as error:
        # A schema that goes round: Python's limit, or within jsonschema's Rust a panic at the same.
        if isinstance(error, RecursionError) or type(error).__module__ == "pyo3_runtime":
            raise WrongAnswer([Problem("schema", "goes round without an end")]) from None
        raise
    if found:
        raise WrongAnswer(
            Problem(pointer(PLACE, each.path), _short(tell(each.message))) for each in found
        )


def _is_deep(answer: Any) -> bool:
    """Deeper than events show a value, and than a checker can go that calls itself."""
    level = [answer]
    for _ in range(MAX_DEPTH + 1):
        below: list[Any] = []
        for each in level:
            if isinstance(each, (list, tuple)):
                below += each
            elif isinstance(each, Mapping):
                below += each.values()
        level = below
    return bool(level)


def _short(message: str) -> str:
    return message if len(message) <= QUOTED else f"{message[: QUOTED - 60]} … {message[-57:]}"


def _check_schema(schema: Mapping[str, Any]) -> None:
    from jsonschema import SchemaError
    from jsonschema_specifications import REGISTRY
    from referencing.jsonschema import DRAFT202012

    try:
        _validator_class().check_schema(schema)
    except SchemaError as error:
        place = pointer("schema", error.path)
        raise ConfigurationError(f"not a JSON Schema: {place}: {_short(error.message)}") from None
    whole = DRAFT202012.create_resource(schema)
    for uri in _dangling_references(whole, REGISTRY.resolver_with_root(whole)):
        raise ConfigurationError(f"schema: {uri!r} is not in it, and nothing is fetched")


def _dangling_references(schema: Any, resolver: Any) -> Iterator[str]:
    """What a schema refers to that is not in it."""
    contents = schema.contents if isinstance(schema.contents, Mapping) else {}
    for keyword in ("$ref", "$dynamicRef"):
        if isinstance(uri := contents.get(keyword), str):
            try:
                resolver.lookup(uri)
            except _dangling():
                yield _short(uri)
    for part in schema.subresources():
        yield from _dangling_references(part, resolver.in_subresource(part))


def _adapter_and_schema(kind: Any) -> tuple[TypeAdapter[Any], dict[str, Any]]:
    from pydantic import PydanticUserError, TypeAdapter
    from pydantic.errors import PydanticInvalidForJsonSchema

    try:
        adapter = TypeAdapter(kind)
        return adapter, adapter.json_schema()
    except (PydanticUserError, PydanticInvalidForJsonSchema) as error:
        reason = str(error).partition("\n")[0]
        raise ConfigurationError(
            f"no answer can be a {kind!r}: {reason}; give a type that JSON has a form for, or a "
            "JSON Schema"
        ) from None


def _validator_of(schema: Mapping[str, Any]) -> Any:
    """It knows JSON Schema's own schemas and fetches none: a schema may come from a log."""
    from jsonschema_specifications import REGISTRY

    return _validator_class()(schema, registry=REGISTRY)


@functools.cache
def _validator_class() -> Any:
    """JSON Schema 2020-12. A pattern that only pydantic can read is left to pydantic."""
    from jsonschema import Draft202012Validator
    from jsonschema.validators import extend

    keywords = Draft202012Validator.VALIDATORS

    def lenient(keyword: str) -> Callable[..., Iterator[Any]]:
        def found(*args: Any) -> Iterator[Any]:
            with contextlib.suppress(re.error):
                yield from keywords[keyword](*args)

        return found

    return extend(
        Draft202012Validator, {each: lenient(each) for each in ("pattern", "patternProperties")}
    )


@functools.cache
def _dangling() -> type[Exception]:
    from referencing.exceptions import Unresolvable

    return Unresolvable
