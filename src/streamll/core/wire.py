"""Events as JSON (RFC 8259): one flat object each, and envelopes of several events of one run.

This is version 1 of the format (docs/wire.md). An event::

    {"v": 1, "event_type": "token", "seq": 7, "timestamp": 1732090000.5, "run_id": "…",
     "path": ["QA", "predict"], "predictor": "predict", "call_id": "…", "context": {…},
     "field": "answer", "token": "Mach"}

Fields that equal their default are omitted. A custom event has its own fields under ``data``. An
envelope holds what its events share once::

    {"v": 1, "run_id": "…", "context": {…}, "events": [{"event_type": "token", …}, …]}

``v`` is the major version: within one, kinds and keys are only added. A reader keeps what it
does not know: unknown keys in ``event.extra``, unknown kinds as ``UnknownEvent``; both are
written again unchanged. A newer major version is a ``WireError``. No kind may ever have a field
called ``data``; that is how custom events are distinguished from unknown kinds.

One odd value costs no more than itself: where its field has a default, that stands for it, and
what is to be text is made text. An event of an envelope that cannot be read even so is reported as
a ``stream.gap`` in its place.

Encoding never raises: what JSON cannot represent is rendered (``core.jsonable``), NaN and
infinities become null. Decoding only raises ``WireError``, which names the position.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from math import nan
from operator import attrgetter
from typing import Any, NamedTuple

import msgspec

from streamll.core import events as ev
from streamll.core.errors import WireError
from streamll.core.events import KINDS, NOBODY, NOTHING, Event, EventData, Identity, StreamllEvent
from streamll.core.jsonable import as_text, plain, render

FORMAT_VERSION = 1

_IDENTITY: Mapping[str, Any] = {
    field.name: field.default for field in msgspec.structs.fields(Identity)
}
_SHARED = frozenset({"v", "event_type", "seq", "timestamp", "context"})


class _KindFields:
    """The fields of an event class, as the wire format needs them."""

    def __init__(self, cls: type[Event]) -> None:
        names = ev.own_fields(cls)
        fields = [field for field in msgspec.structs.fields(cls) if field.name in names]
        self.cls = cls
        self.required = [field.name for field in fields if field.required]
        self.optional = [(field.name, field.default) for field in fields if not field.required]
        self.fields = fields
        self.known = _SHARED.union(names)

    def fitting(self, parts: dict[str, Any]) -> dict[str, Any]:
        """The parts of an event with something else for each value that its field cannot have."""
        fitting, odd = dict(parts), {}
        if parts.get("timestamp", nan) is None:
            fitting["timestamp"] = nan
        for field in self.fields:
            if field.name not in parts or _fits(value := parts[field.name], field.type):
                continue
            if value is None and field.type is float:  # null stands for NaN and infinities
                fitting[field.name] = nan
            elif not field.required:
                odd[field.name] = fitting.pop(field.name)
            elif field.type is str:
                fitting[field.name] = "" if value is None else as_text(value)
        if odd:
            fitting["extra"] = {**parts.get("extra", NOTHING), **odd}
        return fitting


class _StructWriter:
    """Writes frequent kinds of events as structs, at a third of the cost of dicts.

    The JSON is that of ``_flat``, but a field is only omitted if its value *is* its default:
    suitable for kinds whose fields are texts and small numbers.
    """

    def __init__(self, cls: type[Event]) -> None:
        kind = _KINDS[cls.event_type]
        own = [*((name, msgspec.UNSET) for name in kind.required), *kind.optional]
        who = [(name, default) for name, default in _IDENTITY.items() if name != "run_id"]
        keys = [("seq", None), ("timestamp", msgspec.UNSET), *who, *own]
        self.own = attrgetter(*(name for name, _ in own))
        self.write: Callable[..., msgspec.Struct] = msgspec.defstruct(
            cls.__name__,
            [(name, Any, default) for name, default in keys],
            tag_field="event_type",
            tag=cls.event_type,
            omit_defaults=True,
            gc=False,
        )


_CUSTOM = _KindFields(StreamllEvent)
_KINDS = {name: _KindFields(cls) for name, cls in KINDS.items()}
_written = {kind.cls: kind for kind in _KINDS.values()}  # and users' own classes, when met
_STRUCT_WRITERS: dict[type[Event], _StructWriter] = {
    cls: _StructWriter(cls) for cls in (ev.TokenEvent, ev.Thinking, ev.ToolCallDelta)
}
_who = attrgetter(*(name for name in _IDENTITY if name != "run_id"))
_encoder = msgspec.json.Encoder(enc_hook=render)
_decoder = msgspec.json.Decoder()


# --- writing ------------------------------------------------------------------------------------


def to_dict(event: Event) -> dict[str, Any]:
    """The event as one flat mapping, with its values unchanged."""
    flat = {"v": FORMAT_VERSION, **_flat(event, _identity_keys(event.identity))}
    if event.context:
        flat["context"] = dict(event.context)
    return flat


def encode(event: Event) -> bytes:
    """The event as one line of JSON, without the line end."""
    return _json(to_dict(event))


def as_read(value: Any) -> Any:
    """A value as a reader of its JSON has it: a UUID as its text, a tuple as a list."""
    return _object(_json({"value": value}))["value"]


def encode_batch(events: Iterable[Event]) -> list[bytes]:
    """The events as envelopes, in order; a new one begins when run or context changes."""
    events = list(events)
    try:
        return [_encoder.encode(envelope) for envelope in _envelopes(events, _STRUCT_WRITERS)]
    except Exception:  # noqa: BLE001 - no value of a program may stop the stream
        return [_json(envelope) for envelope in _envelopes(events, {})]


def opening(run_id: str | None, context: Mapping[str, Any]) -> bytes:
    """The beginning of the envelope of this run and context, up to its first event."""
    return _encoder.encode(_envelope(run_id, context, []))[:-2]


def _envelopes(
    events: list[Event], writers: Mapping[type[Event], _StructWriter]
) -> list[dict[str, Any]]:
    envelopes: list[dict[str, Any]] = []
    inside: list[Any] = []
    identity: Identity | None = None
    context: Mapping[str, Any] = NOTHING
    keys: dict[str, Any] = {}
    who: tuple[Any, ...] = ()
    for event in events:
        begins = not envelopes
        if event.identity is not identity:
            begins = begins or identity is None or event.identity.run_id != identity.run_id
            identity = event.identity
            keys = _identity_keys(identity)
            keys.pop("run_id", None)
            who = _who(identity)
        if begins or (event.context is not context and event.context != context):
            context = event.context
            inside = []
            envelopes.append(_envelope(event.run_id, context, inside))
        writer = writers.get(type(event))
        if writer is None or event.extra:
            inside.append(_flat(event, keys))
        else:
            inside.append(writer.write(event.seq, event.timestamp, *who, *writer.own(event)))
    return envelopes


def _envelope(run_id: str | None, context: Mapping[str, Any], events: list[Any]) -> dict[str, Any]:
    envelope: dict[str, Any] = {"v": FORMAT_VERSION}
    if run_id is not None:
        envelope["run_id"] = run_id
    if context:
        envelope["context"] = dict(context)
    envelope["events"] = events
    return envelope


def _identity_keys(identity: Identity) -> dict[str, Any]:
    if identity is NOBODY:
        return {}
    return {
        name: value
        for name, default in _IDENTITY.items()
        if (value := getattr(identity, name)) != default
    }


def _flat(event: Event, identity: dict[str, Any]) -> dict[str, Any]:
    """All keys of the event except version and context; ``identity`` are those of its origin."""
    flat: dict[str, Any] = {"event_type": event.event_type}
    if event.seq is not None:
        flat["seq"] = event.seq
    flat["timestamp"] = event.timestamp
    flat.update(identity)
    if isinstance(event, StreamllEvent):
        own = event.data.own if isinstance(event.data, EventData) else event.data
        more = own if isinstance(event, ev.UnknownEvent) else {"data": dict(own)}
        flat.update((key, value) for key, value in more.items() if key not in flat)
    else:
        kind = _written.get(type(event)) or _written.setdefault(
            type(event), _KindFields(type(event))
        )
        for name in kind.required:
            flat[name] = getattr(event, name)
        for name, default in kind.optional:
            value = getattr(event, name)
            if value is not default and (default is None or value != default):
                flat[name] = value
    if event.extra:
        flat.update((key, value) for key, value in event.extra.items() if key not in flat)
    return flat


def _json(value: dict[str, Any]) -> bytes:
    try:
        return _encoder.encode(value)
    except Exception:  # noqa: BLE001 - no value of a program may stop the stream
        return _encoder.encode(plain(value))


# --- reading ------------------------------------------------------------------------------------


class DecodedEntry(NamedTuple):
    """The events of an envelope, and what a sink adds to it: an id and a trace context."""

    id: str | None
    traceparent: str | None
    events: list[Event]


def from_dict(mapping: Mapping[str, Any]) -> Event:
    """The event that ``to_dict``, or any writer of this major version, has written."""
    _check_version(mapping)
    return _Reader().read(mapping, "the event")


def decode(data: bytes | bytearray | memoryview | str) -> Event:
    """The event in one JSON object."""
    return from_dict(_object(data))


def decode_batch(data: bytes | bytearray | memoryview | str) -> list[Event]:
    """The events of an envelope; a single event counts as an envelope of one."""
    return decode_entry(data).events


def decode_entry(data: bytes | bytearray | memoryview | str) -> DecodedEntry:
    """An envelope as a sink has written it to a log.

    Raises:
        WireError: it is not streamll's, newer than this version can read, or none of its events can
            be read.
    """
    envelope = _object(data)
    values = (envelope.get("id"), envelope.get("traceparent"))
    entry_id, traceparent = (each if isinstance(each, str) else None for each in values)
    if "events" not in envelope:
        return DecodedEntry(entry_id, traceparent, [from_dict(envelope)])
    _check_version(envelope)
    events = envelope["events"]
    if not isinstance(events, list):
        raise WireError(f"events is {_kind_of(events)}, not an array")
    reader = _Reader({key: envelope[key] for key in ("run_id", "context") if key in envelope})
    read: list[Event] = []
    errors: list[WireError] = []
    for number, event in enumerate(events, 1):
        try:
            read.append(reader.read(event, f"event {number} of {len(events)}"))
        except WireError as error:
            errors.append(error)
            read.append(reader.gap(read[-1].timestamp if read else 0.0))
    if errors and len(errors) == len(events):
        raise errors[0]
    return DecodedEntry(entry_id, traceparent, read)


class _Reader:
    """Reads events that share ``run_id`` and ``context``; equal identities share one object."""

    def __init__(self, shared: Mapping[str, Any] = NOTHING) -> None:
        self._shared = shared
        self._keys: dict[str, Any] = {}
        self._identity = NOBODY

    def read(self, mapping: Any, position: str) -> Event:
        if not isinstance(mapping, Mapping):
            raise WireError(f"{position} is {_kind_of(mapping)}, not an object")
        name = mapping.get("event_type")
        if not isinstance(name, str):
            raise WireError(f"{position} has no event_type")
        try:
            return self._build(name, mapping)
        except msgspec.ValidationError as error:
            raise WireError(f"{position} ({name}): {error}") from error

    def gap(self, timestamp: float) -> Event:
        """In place of an event that cannot be read."""
        shared = {"event_type": "stream.gap", "count": 1, "reason": "unreadable"}
        return self._build("stream.gap", {**shared, "timestamp": timestamp})

    def _build(self, name: str, mapping: Mapping[str, Any]) -> Event:
        keys = {**self._shared, **mapping}
        kind = _KINDS.get(name, _CUSTOM)
        known = kind.known
        identity: dict[str, Any] = {}
        parts: dict[str, Any] = {}
        extra: dict[str, Any] = {}
        for key, value in keys.items():
            if key in known:
                parts[key] = value
            elif key in _IDENTITY:
                identity[key] = value
            else:
                extra[key] = value
        if identity != self._keys:
            self._identity = msgspec.convert(identity, Identity)
            self._keys = identity
        parts["identity"] = self._identity
        cls = kind.cls
        if kind is _CUSTOM:
            if isinstance(own := parts.get("data"), Mapping):
                data = own
            else:  # an unknown kind: its keys are its data
                own_data = {"data": own} if "data" in parts else {}
                data, extra, cls = {**extra, **own_data}, {}, ev.UnknownEvent
            context = parts.get("context")
            parts["data"] = EventData(data, context) if context else data
        if extra:
            parts["extra"] = extra
        try:
            return msgspec.convert(parts, cls)
        except msgspec.ValidationError:
            return msgspec.convert(kind.fitting(parts), cls)


def _fits(value: Any, type_: Any) -> bool:
    try:
        msgspec.convert(value, type_)
    except msgspec.ValidationError:
        return False
    return True


def _object(data: bytes | bytearray | memoryview | str) -> dict[str, Any]:
    try:
        value = _decoder.decode(data)
    except (msgspec.MsgspecError, RecursionError):
        try:  # some writers emit lone surrogate escapes, NaN, huge numbers
            value = json.loads(data if isinstance(data, str) else bytes(data))
        except (ValueError, RecursionError) as error:
            raise WireError(f"not JSON: {error}") from error
    if not isinstance(value, dict):
        raise WireError(f"an event is an object, not {_kind_of(value)}")
    return value


def _check_version(mapping: Mapping[str, Any]) -> None:
    version = mapping.get("v")
    if type(version) is not int or version < 1:
        raise WireError(f"not a streamll event: its version 'v' is {version!r}, not a number")
    if version > FORMAT_VERSION:
        raise WireError(
            f"written in version {version} of the event format; this streamll reads up to "
            f"version {FORMAT_VERSION}. Upgrade streamll to read it"
        )


def _kind_of(value: object) -> str:
    """The type of a JSON value, for error messages."""
    return {dict: "an object", list: "an array", str: "a text", type(None): "null"}.get(
        type(value), "a number" if isinstance(value, (int, float)) else type(value).__name__
    )
