"""How a chat completion's message grows out of pieces: blocks of content, and fields of any kind."""

from __future__ import annotations

from typing import Any

_THOUGHTS = {"thinking": "thinking", "reasoning": "summary"}
"""Blocks of thinking, Mistral's and Databricks', and where their text is."""
_TEXT_TYPES = frozenset({"text", "summary_text"})


def thoughts_in(block: Any) -> Any:
    """The text or parts of a block of thinking; ``None`` for any other."""
    return block.get(_THOUGHTS.get(str(block.get("type")), "")) if type(block) is dict else None


def append_block(blocks: list[Any], block: Any) -> None:
    """Texts, and the texts of thinking, come in pieces; other blocks whole."""
    last: Any = blocks[-1] if blocks else None
    thought, more = thoughts_in(last), thoughts_in(block)
    if is_only_text(block) and is_only_text(last) and last["type"] == block["type"]:
        blocks[-1] = {**block, "text": last["text"] + block["text"]}
    elif type(thought) is type(more) in (list, str) and last["type"] == block["type"]:
        if type(more) is list:
            parts, more = more, list(thought)
            for part in parts:
                append_block(more, part)
        else:
            more = thought + more
        blocks[-1] = {**last, **block, _THOUGHTS[block["type"]]: more}
    else:
        blocks.append(block)


def is_only_text(block: Any) -> bool:
    """Whether a block has a text, and nothing that would be lost with the block."""
    return (
        type(block) is dict
        and block.keys() == {"type", "text"}
        and block["type"] in _TEXT_TYPES
        and type(block["text"]) is str
    )


def merge(known: dict[str, Any], key: str, value: Any) -> None:
    """Lists grow, what is empty changes nothing, anything else replaces."""
    if type(value) is list:
        had = known.get(key)
        known[key] = _grown(had, value) if type(had) is list else list(value)
    elif value not in (None, "", {}) or key not in known:
        known[key] = value


def _grown(known: list[Any], more: list[Any]) -> list[Any]:
    """A list with more entries; entries of one kind and number are one, in pieces."""
    for entry in more:
        last: Any = known[-1] if known else None
        if _same_entry(last, entry):
            known[-1] = {**last, **{key: _joined(last, key, entry[key]) for key in entry}}
        else:
            known.append(entry)
    return known


def _same_entry(last: Any, entry: Any) -> bool:
    if not type(last) is type(entry) is dict:
        return False
    in_pieces = entry.get("type") == "thinking" and not last.get("signature")  # of LiteLLM's proxy
    return (in_pieces or type(entry.get("index")) is int) and all(
        last.get(name) == entry.get(name) for name in ("index", "type", "id")
    )


def _joined(last: dict[str, Any], key: str, value: Any) -> Any:
    if key in ("text", "summary", "data", "thinking") and type(value) is type(last.get(key)) is str:
        return last[key] + value
    return last.get(key) if value is None else value
