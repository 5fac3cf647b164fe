"""Arguments of a Gemini call in pieces: JSON paths and values, in any order that adds up."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamll.capture.tap.wire.base import Confused
from streamll.capture.tap.wire.partial_arguments import PartialCall

NAMES = st.one_of(
    st.text("abc_", min_size=1, max_size=3), st.sampled_from(["odd name", "a.b", "x[0]"])
)
LEAVES = st.one_of(st.text(max_size=6), st.integers(), st.booleans(), st.none())
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, min_size=1, max_size=3)
        | st.dictionaries(NAMES, inner, min_size=1, max_size=3)
    ),
    max_leaves=8,
)
KINDS = {str: "stringValue", bool: "boolValue", type(None): "nullValue", int: "numberValue"}


def pieces(value, path="$"):
    """The pieces of a value, as Google writes them."""
    if isinstance(value, dict):
        for name, inner in value.items():
            plain = name.isidentifier()
            yield from pieces(inner, f"{path}.{name}" if plain else f"{path}['{name}']")
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from pieces(inner, f"{path}[{number}]")
    elif isinstance(value, str):
        for character in value:
            yield {"jsonPath": path, "stringValue": character, "willContinue": True}
        yield {"jsonPath": path, "stringValue": ""}
    else:
        yield {"jsonPath": path, KINDS[type(value)]: value}


def arguments(*given_pieces):
    call = PartialCall(
        {"functionCall": {"name": "f", "willContinue": True}, "thoughtSignature": "s"}
    )
    for piece in given_pieces:
        call.add({"partialArgs": [piece]})
    return call.part()


@given(st.dictionaries(NAMES, VALUES, max_size=3))
def test_pieces_add_up_to_the_arguments(value):
    part = arguments(*pieces(value))
    assert part == {"functionCall": {"name": "f", "args": value}, "thoughtSignature": "s"}


def test_a_value_that_comes_again_is_the_last_one():
    given_pieces = [{"jsonPath": "$.q", "stringValue": text} for text in ("a", "b")]
    assert arguments(*given_pieces)["functionCall"]["args"] == {"q": "b"}


@pytest.mark.parametrize(
    "path", ["", "$", "q", "$[0]", "$.a[b]", "$..a", "$.a[99999999]", "$.a.b", "$.a[0]"]
)
def test_a_place_that_cannot_be_read_is_confusing(path):
    with pytest.raises(Confused):
        arguments(
            {"jsonPath": "$.a", "stringValue": "text"}, {"jsonPath": path, "stringValue": "x"}
        )
