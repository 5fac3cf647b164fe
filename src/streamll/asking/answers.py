"""What an answer may be: its JSON Schema, and how it becomes the program's value.

An answer comes from outside, as JSON. It is checked against the schema first, by whoever has it,
also where the program does not run; then the program's process makes the value of it that the
program asked for (a date, a member of an enum, a model), which may find more that is wrong.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from streamll.core.errors import ConfigurationError, WrongAnswer
from streamll.core.jsonable import plain
from streamll.core.problems import Problem, pointer

if TYPE_CHECKING:
    from pydantic import TypeAdapter

PLACE = "answer"
QUOTED = 200
"""Characters that are told of what is wrong: it may quote the answer."""


class AnswerType:
    """What the answers to a question may be.

    Args:
        schema: a type that pydantic reads (``bool``, ``Literal["a", "b"]``, a model, …), or a JSON
            Schema (2020-12) as a mapping; the value is then the JSON itself.

    Raises:
        ConfigurationError: it is neither.
    """

    def __init__(self, schema: Any) -> None:
        self._adapter: TypeAdapter[Any] | None = None
        if isinstance(schema, Mapping):
            self.schema = dict(schema)
            _check_schema(self.schema)
        else:
            self._adapter, self.schema = _adapter_and_schema(schema)

    def convert(self, answer: Any) -> Any:
        """The program's value of an answer; ``WrongAnswer`` if it cannot be one."""
        check(self.schema, answer)
        if self._adapter is None:
            return answer
        from pydantic import ValidationError

        try:
            return self._adapter.validate_python(answer)
        except ValidationError as error:
            raise WrongAnswer(
                Problem(pointer(PLACE, each["loc"]), each["msg"])
                for each in error.errors(
                    include_url=False, include_context=False, include_input=False
                )
            ) from None

    def told(self, value: Any) -> Any:
        """A value as events have it."""
        if self._adapter is None:
            return plain(value)
        return self._adapter.dump_python(value, mode="json", warnings=False)


def check(schema: Mapping[str, Any], answer: Any) -> None:
    """Check an answer against its schema; ``WrongAnswer`` names each place where it differs."""
    found = sorted(
        _validator_class()(schema).iter_errors(answer), key=lambda each: list(map(str, each.path))
    )
    if found:
        raise WrongAnswer(Problem(pointer(PLACE, each.path), _said(each)) for each in found)


def _said(error: Any) -> str:
    message: str = error.message
    return message if len(message) <= QUOTED else f"{message[: QUOTED - 60]} … {message[-57:]}"


def _check_schema(schema: Mapping[str, Any]) -> None:
    from jsonschema import SchemaError

    try:
        _validator_class().check_schema(schema)
    except SchemaError as error:
        place = pointer("schema", error.path)
        raise ConfigurationError(f"not a JSON Schema: {place}: {_said(error)}") from None


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


@functools.cache
def _validator_class() -> Any:
    from jsonschema import Draft202012Validator

    return Draft202012Validator
