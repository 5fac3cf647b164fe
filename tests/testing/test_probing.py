"""Secrets in a recording of a probe: masked wherever they are, at the same length."""

from __future__ import annotations

import json

import pytest

from streamll.testing.cutting import chunkings
from streamll.testing.probing import mask

KEY = "sk-practice-0123456789"


def frames(pieces, **dump):
    return "".join(f'data: {{"delta": {{"content": {json.dumps(p, **dump)}}}}}\n\n' for p in pieces)


def content(text):
    parts = (block.removeprefix("data: ") for block in text.split("\n\n") if block)
    return "".join(json.loads(part)["delta"]["content"] for part in parts)


@pytest.mark.parametrize("said", [f'a "{KEY}" b', f"ü {KEY}\n\tend", KEY])
def test_a_secret_is_masked_however_it_is_cut(said):
    for pieces in chunkings(said):
        whole = frames(pieces)
        hidden = mask(whole, {KEY})
        assert len(hidden) == len(whole)
        assert content(hidden) == said.replace(KEY, "*" * len(KEY))


def test_what_looks_like_a_key_is_masked_though_nobody_named_it():
    text = 'data: {"error": {"message": "Incorrect API key: gsk_abcdefgh12345678."}}\n\n'
    assert mask(text, set()) == text.replace("gsk_abcdefgh12345678", "*" * 20)


def test_texts_with_quotes_are_found_as_json_writes_them():
    said = 'What is a "stream" of tokens?'
    echoed = json.dumps({"instructions": said})
    assert said not in json.loads(mask(echoed, {said}))["instructions"]


def test_everything_else_stays():
    whole = frames(["nothing ", "to hide, sk-no"])
    assert mask(whole, {"another secret"}) == whole
