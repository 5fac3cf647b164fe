"""The tool calls of one chat reply: which call a fragment belongs to, as servers number them.

OpenAI gives every call an index and an id, with its first fragment the name. Others give no index, or
all calls the same; no ids, or equal ones, or a new one with every fragment. What always holds is that
a call has one name, and arguments that are one JSON object: so a name begins a call unless the last
call still needs it, and nothing continues arguments that are whole.

Where that does not decide, ``Confused`` is raised: the plain reply will tell.
"""

from __future__ import annotations

import json
from typing import Any

from streamll.capture.deltas import Deltas, ToolCallFragment
from streamll.capture.tap.wire.base import Confused, string


class ToolCalls:
    """``add`` each fragment; ``body`` is the message's ``tool_calls``."""

    def __init__(self) -> None:
        self._calls: list[_Call] = []
        self._at: dict[int, _Call] = {}  # the wire's index → the call that had it last
        self._waiting: dict[str, Any] = {}  # metadata that came before the first call

    def __bool__(self) -> bool:
        return bool(self._calls)

    def add(self, fragments: Any) -> Deltas:
        """The fragments of one delta."""
        if type(fragments) is not list:
            raise Confused("tool calls that are no list")
        given = [each for each in fragments if type(each) is dict]
        unnumbered = [each for each in given if type(each.get("index")) is not int]
        if len(unnumbered) > 1 and any(
            not _names(each) and _arguments(each) for each in unnumbered
        ):
            raise Confused("several fragments of tool calls without a name or an index")
        return [delta for fragment in given for delta in self._add(fragment)]

    def body(self, *, cut_off: bool = False) -> list[dict[str, Any]]:
        """The calls; ``cut_off``: by the reply's length, so that arguments may end anywhere."""
        for call in self._calls:
            call.check(cut_off=cut_off)
        return [call.body() for call in self._calls]

    def _add(self, fragment: dict[str, Any]) -> Deltas:
        index: Any = fragment.get("index")
        identity = string(fragment.get("id"))
        name, arguments = _names(fragment), _arguments(fragment)
        numbered = type(index) is int
        begins = identity and (index not in self._at if numbered else not self._calls)
        if "custom" in fragment:
            raise Confused("a custom tool call")
        if not (name or arguments or begins):
            self._note(fragment, self._at.get(index) if numbered else None, identity)
            return ()
        call = self._call_of(index if numbered else None, identity, name, arguments)
        shown = None if call.begun else identity or None
        call.add(fragment, name, arguments)
        return (ToolCallFragment(call.number, shown, name or None, arguments),)

    def _note(self, fragment: dict[str, Any], call: _Call | None, identity: str) -> None:
        """A fragment that says nothing but what belongs to a call: that with its id or index."""
        same = [each for each in self._calls if identity and each.id == identity]
        if same or call or self._calls:
            (same[-1] if same else call or self._calls[-1]).note(fragment)
        else:
            _keep(self._waiting, fragment, besides=_OF_A_FRAGMENT)

    def _call_of(self, index: int | None, identity: str, name: str, arguments: str) -> _Call:
        if index is not None and index not in self._at:
            return self._first_of(index, name)
        known = self._by_id(identity) if index is None else self._at[index]
        if known is None or _begins_another(known, index, identity, name, arguments):
            known = self._begin(index)
        return known

    def _first_of(self, index: int, name: str) -> _Call:
        """The call of the first fragment with this index."""
        if any(index < other for other in self._at):
            raise Confused("tool calls out of their order")
        last = self._calls[-1] if self._calls else None
        if not name and last is not None and not last.whole:
            raise Confused("fragments of tool calls whose index rises")
        return self._begin(index)

    def _by_id(self, identity: str) -> _Call | None:
        """The call that a fragment without an index may continue: the last with its id, or the last."""
        same = [call for call in self._calls if identity and call.id == identity]
        return same[-1] if same else (self._calls[-1] if self._calls else None)

    def _begin(self, index: int | None) -> _Call:
        call = _Call(len(self._calls), self._waiting)
        self._waiting = {}
        self._calls.append(call)
        if index is not None:
            self._at[index] = call
        return call


class _Call:
    """One call in pieces."""

    def __init__(self, number: int, metadata: dict[str, Any]) -> None:
        self.number = number
        self._fields: dict[str, Any] = {"type": "function", **metadata}
        self._function: dict[str, Any] = {"name": ""}
        self._pieces: list[str] = []
        self._object: Any = None  # arguments given as JSON, not as its text
        self._braces = _Braces()
        self._scanned = 0  # how many pieces it has seen
        self.begun = False
        self.must_be_whole = False
        """It was taken for one call although its fragments have several ids."""

    @property
    def id(self) -> str:
        return string(self._fields.get("id"))

    @property
    def name(self) -> str:
        return string(self._function.get("name"))

    @property
    def arguments(self) -> str:
        return "".join(self._pieces)

    @property
    def whole(self) -> bool:
        """Whether its arguments are one JSON object: nothing can continue them."""
        for piece in self._pieces[self._scanned :]:
            self._braces.see(piece)
        self._scanned = len(self._pieces)
        if not self._braces.are_closed:
            return False
        return _length_of_object(self.arguments) == len(self.arguments)

    def check(self, *, cut_off: bool) -> None:
        """Raise ``Confused`` where two calls may have become one, or a piece of one is missing."""
        if not self.name:
            raise Confused("a tool call without a name")
        arguments = self.arguments
        if self._object is not None and arguments != json.dumps(self._object):
            raise Confused("arguments of a tool call as text and as an object")
        length = _length_of_object(arguments)
        may_be_cut = cut_off and not self.must_be_whole
        if length != len(arguments) and not (length is None and may_be_cut) and arguments.strip():
            raise Confused("arguments of a tool call that are not one object")

    def add(self, fragment: dict[str, Any], name: str, arguments: str) -> None:
        self.begun = True
        self.note(fragment)
        function = fragment.get("function")
        if type(function) is dict:
            given = function.get("arguments")
            self._object = given if type(given) is dict else self._object
            _keep(self._function, function, besides=("arguments",))
        if name:
            self._function["name"] = name
        self._pieces.append(arguments)

    def note(self, fragment: dict[str, Any]) -> None:
        _keep(self._fields, fragment, besides=_OF_A_FRAGMENT)

    def body(self) -> dict[str, Any]:
        arguments = self.arguments if self._object is None else self._object
        return {**self._fields, "function": {**self._function, "arguments": arguments}}


_OF_A_FRAGMENT = ("index", "function")


def _begins_another(
    call: _Call, index: int | None, identity: str, name: str, arguments: str
) -> bool:
    """Whether a fragment that may continue ``call`` begins the next one instead."""
    new_id = bool(identity and call.id and identity != call.id)
    if not (name or new_id):
        return False  # as nearly all fragments
    if call.whole:
        return _after_whole(call, identity, name, arguments, new_id=new_id)
    if not name or not call.name:
        return False  # more of its arguments, with whichever id
    if name == call.name:  # one that every fragment repeats
        call.must_be_whole |= new_id
        return False
    if call.arguments.strip():
        raise Confused("a tool call begins in the middle of another")
    if identity == call.id and (identity or index is not None):
        raise Confused("two names for one tool call")
    return True


def _after_whole(call: _Call, identity: str, name: str, arguments: str, *, new_id: bool) -> bool:
    if not name:
        if arguments.strip():
            raise Confused("more of a tool call whose arguments are whole")
        return False
    if new_id or name != call.name:
        return True
    if not arguments.strip():
        if identity:
            return False  # its name once more
        raise Confused("a tool call's name again, after its arguments")
    if identity and arguments == call.arguments:
        raise Confused("the same tool call twice")
    return True


def _names(fragment: dict[str, Any]) -> str:
    function = fragment.get("function")
    return string(function.get("name")) if type(function) is dict else ""


def _arguments(fragment: dict[str, Any]) -> str:
    """A fragment of the JSON text; servers that give the object itself give all of it at once."""
    function = fragment.get("function")
    given = function.get("arguments") if type(function) is dict else None
    return json.dumps(given) if type(given) is dict else string(given)


def _keep(known: dict[str, Any], given: dict[str, Any], *, besides: tuple[str, ...]) -> None:
    """Keep what is given; an id keeps its first value, everything else its last."""
    for key, value in given.items():
        is_empty = value in (None, "") or (key == "id" and known.get("id"))
        if key not in besides and not (is_empty and key in known):
            known[key] = value


class _Braces:
    """Whether every brace of a JSON text that comes in pieces is closed, each of which is seen once."""

    def __init__(self) -> None:
        self.are_closed = False
        self._open = 0
        self._in_text = self._is_escaped = False

    def see(self, piece: str) -> None:
        for sign in piece:
            if self._is_escaped:
                self._is_escaped = False
            elif sign == '"':
                self._in_text = not self._in_text
            elif self._in_text:
                self._is_escaped = sign == "\\"
            elif sign == "{":
                self._open += 1
            elif sign == "}":
                self._open -= 1
                self.are_closed |= self._open <= 0


_decode_object = json.JSONDecoder().raw_decode


def _length_of_object(text: str) -> int | None:
    """The length of the JSON object that ``text`` begins with, with the blanks around it."""
    begin = len(text) - len(text.lstrip())
    if text[begin : begin + 1] != "{":
        return None
    try:
        _, end = _decode_object(text, begin)
    except (ValueError, RecursionError):
        return None
    return end + len(text[end:]) - len(text[end:].lstrip())
