"""DSPy's images, sounds and files, made of what a request says of them.

DSPy before 3.3 opens a file or fetches an address where a text names one. Here a text is an
address or data and never a name of a file, and the only addresses are those that a provider is
told to look at: nothing is read or fetched for a request.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import types
from collections.abc import Mapping
from typing import Annotated, Any, Union, get_args, get_origin

from streamll.serve.inputs.annotations import MEDIA, bare, dspy_type, is_a
from streamll.serve.inputs.messages import Attachment, MediaKind

KEYS: dict[MediaKind, tuple[str, ...]] = {
    "image": ("url",),
    "audio": ("data", "audio_format"),
    "file": ("file_data", "file_id", "filename"),
}
"""Of the objects that DSPy's own types are in JSON."""

SCHEMAS: dict[MediaKind, dict[str, Any]] = {
    kind: {
        "title": MEDIA[kind],
        "description": f"{'An address (https://…) or data' if kind == 'image' else 'Data'}: "
        f"data:{kind if kind != 'file' else 'application'}/…;base64,…",
        "anyOf": [
            {"type": "string", "format": "data-url"},
            {
                "type": "object",
                "properties": {key: {"type": "string"} for key in keys},
                "required": [] if kind == "file" else list(keys),
                "additionalProperties": False,
            },
        ],
    }
    for kind, keys in KEYS.items()
}

ADDRESSES = ("https://", "http://", "gs://")


def opens_files() -> bool:
    """Whether this DSPy reads files and addresses that a text names: before 3.3."""
    image = dspy_type("Image")
    return image is not None and not hasattr(image, "from_path")


def with_media(annotation: Any, known: frozenset[int] = frozenset()) -> Any:
    """The annotation, with DSPy's media made by a ``Reader``, also inside lists and unions.

    ``known``: the aliases on the way to it, since one may name itself.
    """
    from pydantic import BeforeValidator, WithJsonSchema

    for kind, name in MEDIA.items():
        own: Any = dspy_type(name)
        if is_a(annotation, own):
            reader = BeforeValidator(Reader(kind, annotation, own))
            if annotation.model_fields.keys() != own.model_fields.keys():
                return Annotated[annotation, reader]
            return Annotated[annotation, reader, WithJsonSchema(SCHEMAS[kind])]
    meant = annotation if get_origin(annotation) is Annotated else bare(annotation)
    if meant is annotation or id(annotation) in known:
        return _with_media_inside(annotation, known)
    inner = with_media(meant, known | {id(annotation)})
    return annotation if inner is meant else inner


def _with_media_inside(annotation: Any, known: frozenset[int]) -> Any:
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is None or not args:
        return annotation
    if origin is Annotated:
        new = (with_media(args[0], known), *args[1:])
        return annotation if new[0] is args[0] else Annotated[new]
    new = tuple(with_media(arg, known) for arg in args)
    if new == args:
        return annotation
    if origin in (Union, types.UnionType):
        return Union[new]  # noqa: UP007 - of values that are known only now
    return origin[new]


@dataclasses.dataclass(frozen=True)
class Reader:
    """Makes values of DSPy's type ``own``, or of its subclass ``cls``, by ``media_from_json``."""

    kind: MediaKind
    cls: Any
    own: Any

    def __repr__(self) -> str:
        return self.kind  # in the places of problems

    def __call__(self, value: Any) -> Any:
        if isinstance(value, self.cls):
            return value
        try:
            return media_from_json(self.kind, value, self.cls)
        except (TypeError, ValueError):
            if self.cls is self.own or opens_files():
                raise
            return value  # a subclass may be made of something else


def media_without_reader(schema: Mapping[str, Any]) -> str | None:
    """The name of a media type of DSPy's that pydantic itself makes for this core schema, if any:
    one in a model, for example.
    """
    media = tuple(filter(None, map(dspy_type, MEDIA.values())))
    definitions: dict[str, Any] = {}
    todo: list[Any] = [schema]
    while todo:
        each = todo.pop()
        if isinstance(each, (list, tuple)):
            todo += each
        elif isinstance(each, Mapping):
            kind, function = each.get("type"), each.get("function")
            if kind == "model" and issubclass(each["cls"], media):
                return str(each["cls"].__name__)
            if kind == "definitions":
                definitions.update((one["ref"], one) for one in each["definitions"])
                todo.append(each["schema"])
            elif kind == "definition-ref":
                todo.append(definitions.pop(each["schema_ref"], None))
            elif not (isinstance(function, dict) and isinstance(function.get("function"), Reader)):
                todo += each.values()
    return None


def media_from_json(kind: MediaKind, value: Any, cls: Any) -> Any:
    """``dspy.Image``, ``Audio`` or ``File``, or a subclass, of a JSON value; ``ValueError`` if it is none.

    A text is an address or a data URL. An object has DSPy's own keys: ``{"url"}`` for an image,
    ``{"data", "audio_format"}`` (base64) for a sound, ``{"file_data", "file_id", "filename"}`` for
    a file.
    """
    keys, names = set(KEYS[kind]), ", ".join(KEYS[kind])
    if isinstance(value, str):
        return media_of_attachment(kind, Attachment(kind=kind, url=value.strip()), cls)
    if not isinstance(value, dict) or not value or value.keys() - keys:
        raise ValueError(f"should be an address or data URL, or an object with {names}")
    texts = {key: each for key, each in value.items() if each is not None}
    if not all(isinstance(each, str) for each in texts.values()):
        raise ValueError(f"{names} should be texts")
    if kind == "audio":
        if texts.keys() != keys:
            raise ValueError("a sound needs data and audio_format")
        _check_base64(texts["data"])
        return cls(**texts)
    url = texts.pop("url" if kind == "image" else "file_data", None)
    return media_of_attachment(kind, Attachment(kind=kind, url=url and url.strip(), **texts), cls)


def media_of_attachment(wanted: MediaKind, attachment: Attachment, cls: Any) -> Any:
    """The media type ``cls`` made of an attachment; ``ValueError`` if it cannot be."""
    url = attachment.url or ""
    if url.startswith("data:"):
        _check_data_url(url)
    elif url and not (wanted == "image" and url.lower().startswith(ADDRESSES)):
        if url.lower().startswith(ADDRESSES):
            raise ValueError(f"dspy.{MEDIA[wanted]} holds data: send it as data:…;base64,…")
        raise ValueError("should be data:…;base64,… or, for an image, an address (https://…)")
    if wanted == "file":
        if not url and not attachment.file_id:
            raise ValueError("a file needs file_data (data:…;base64,…) or file_id")
        given = {"file_id": attachment.file_id, "filename": attachment.filename}
        return cls(file_data=url or None, **given)
    if not url:
        raise ValueError(f"dspy.{MEDIA[wanted]} cannot be given by the id of a file: send its data")
    if wanted == "image":
        return cls(url=url)
    head, _, data = url.partition(";base64,")
    family, _, name = head.removeprefix("data:").partition("/")
    if family != "audio":
        raise ValueError(f"a sound is data:audio/…;base64,…, not {head[:60]}")
    return cls(data=data, audio_format=name.partition(";")[0].removeprefix("x-"))


def _check_data_url(url: str) -> None:
    head, found, data = url.partition(";base64,")
    if not found or "/" not in head:
        raise ValueError("a data URL is data:<type>;base64,<data>")
    _check_base64(data)


def _check_base64(data: str) -> None:
    try:
        base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"is not base64: {error}") from None
