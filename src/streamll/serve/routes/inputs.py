"""A request's inputs, or its conversation, as the inputs of a program; else 400 with every problem."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from streamll.core.errors import InvalidInputs
from streamll.serve.inputs.messages import Message
from streamll.serve.programs import Served
from streamll.serve.web.requests import HTTPRefusal, InvalidRequest


def inputs_from(
    program: Served,
    read: Callable[[dict[str, Any]], list[Message]],
    body: dict[str, Any],
    given: Any = None,
) -> dict[str, Any]:
    """The program's inputs from a request's messages.

    Args:
        program: what is asked.
        read: ``messages_of`` of the request's wire (``serve/inputs/wires``).
        body: the request.
        given: other inputs by name, as the request has them; it should be an object.

    Raises:
        HTTPRefusal: 400, with every problem and its place.
    """
    if not isinstance(given, (dict, type(None))):
        raise HTTPRefusal(400, "inputs must be an object: the program's other inputs, by name")
    try:
        return program.inputs_from(read(body), given)
    except InvalidInputs as error:
        raise InvalidRequest(error) from None
    except ValueError as error:  # of ``from_messages``
        raise HTTPRefusal(400, str(error)) from None


def inputs_in(program: Served, given: dict[str, Any]) -> dict[str, Any]:
    """The program's inputs from a request that has them by name; ``HTTPRefusal`` (400)."""
    try:
        return program.convert(given)
    except InvalidInputs as error:
        raise InvalidRequest(error) from None
