"""A conversation as the inputs of a program, by what the program takes."""

from __future__ import annotations

import base64
import contextlib
import enum
import json
import sys
from typing import Annotated, Literal, NamedTuple, NewType, TypedDict, Union

import dspy
import pytest
from pydantic import BaseModel, model_validator
from typing_extensions import TypeAliasType

from streamll.core.errors import InvalidInputs
from streamll.core.jsonable import plain
from streamll.serve import Served
from streamll.serve.inputs.media import opens_files
from streamll.serve.inputs.wires import agui, openai, vercel

PNG = "data:image/png;base64," + base64.b64encode(b"pixels").decode()
JPG = "data:image/jpeg;base64," + base64.b64encode(b"others").decode()
WAV = base64.b64encode(b"sound").decode()
PDF = "data:application/pdf;base64," + base64.b64encode(b"pages").decode()


class Chat(dspy.Signature):
    """Answer."""

    history: dspy.History = dspy.InputField()
    question: str = dspy.InputField()
    answer: str = dspy.OutputField()


def said(role, content, **keys):
    return {"role": role, "content": content, **keys}


def picture(url=PNG):
    return {"type": "image_url", "image_url": {"url": url}}


def words(text):
    return {"type": "text", "text": text}


TWO_TURNS = [
    said("user", "What is the capital of France?"),
    said("assistant", "Paris"),
    said("user", "And of Germany?"),
    said("assistant", "Berlin"),
    said("user", "Which is larger?"),
]


def inputs(program, messages, given=None, wire=openai, **options):
    served = Served(name="qa", program=program, **options)
    return served.inputs_from(wire.messages_of({"messages": messages}), given)


def problems(program, messages, given=None, wire=openai, **options):
    with pytest.raises(InvalidInputs) as caught:
        inputs(program, messages, given, wire, **options)
    return {each.place: each.message for each in caught.value.problems}


# --- dspy.History --------------------------------------------------------------------------------


class Remembering(dspy.Module):
    """As most programs are written: nothing is annotated."""

    def __init__(self):
        super().__init__()
        self.respond = dspy.ChainOfThought("history: dspy.History, question -> answer")

    def forward(self, question, history=None):
        return self.respond(question=question, history=history)


@pytest.mark.parametrize(
    "program",
    [dspy.Predict(Chat), dspy.ChainOfThought(Chat), dspy.ReAct(Chat, tools=[]), Remembering()],
    ids=["Predict", "ChainOfThought", "ReAct", "Module"],
)
def test_earlier_turns_are_the_history_in_the_fields_of_the_signature(program):
    made = inputs(program, TWO_TURNS)
    assert made["question"] == "Which is larger?"
    assert made["history"] == dspy.History(
        messages=[
            {"question": "What is the capital of France?", "answer": "Paris"},
            {"question": "And of Germany?", "answer": "Berlin"},
        ]
    )


def test_of_several_predictors_the_one_that_replies_says_what_a_turn_is():
    class Checked(dspy.Module):
        forward = Remembering.forward

        def __init__(self):
            super().__init__()
            self.check = dspy.Predict("history: dspy.History, text -> verdict: bool")
            self.respond = dspy.Predict("history: dspy.History, question -> answer")
            self.polish = dspy.Predict("history: dspy.History, draft -> polished")

    made = inputs(Checked(), TWO_TURNS[:3], reply="respond.answer")
    assert made["history"].messages == [
        {"question": "What is the capital of France?", "answer": "Paris"}
    ]


def test_a_history_of_a_function_has_its_own_names():
    def program(question: str, history: dspy.History):
        """Has no signature."""

    program.__annotations__ = {"question": str, "history": dspy.History}
    made = inputs(program, TWO_TURNS[:3], reply="said")
    assert made["history"].messages == [
        {"question": "What is the capital of France?", "said": "Paris"}
    ]


def test_how_an_agent_came_to_its_answer_is_no_turn():
    messages = [
        said("user", "q"),
        said("reasoning", "hm"),
        said("activity", {"any": "thing"}),
        said("assistant", "a"),
        said("user", "r"),
    ]
    made = inputs(dspy.Predict(Chat), messages, wire=agui)
    assert made["history"].messages == [{"question": "q", "answer": "a"}]


def test_the_first_message_has_an_empty_history():
    made = inputs(dspy.Predict(Chat), [said("user", "hello")])
    assert made == {"question": "hello", "history": dspy.History(messages=[])}


def test_messages_of_one_side_are_one_turn_and_what_was_not_answered_is_asked_again():
    made = inputs(
        dspy.Predict(Chat),
        [
            said("assistant", "How can I help?"),
            said("user", "one"),
            said("user", "two"),
            said("assistant", "a", tool_calls=[call("t")]),
            said("tool", "found", tool_call_id="t"),
            said("assistant", "b"),
            said("user", "three"),
            said("user", "four"),
        ],
    )
    assert made["history"].messages == [
        {"question": "", "answer": "How can I help?"},
        {"question": "one\n\ntwo", "answer": "a\n\nb"},
    ]
    assert made["question"] == "three\n\nfour"


NOTHING_SAID = [
    said("assistant", ""),
    said("assistant", None),
    said("assistant", " ", tool_calls=[{"id": "t", "function": {"name": "t", "arguments": "{}"}}]),
]


@pytest.mark.parametrize("nothing", NOTHING_SAID)
def test_what_has_got_no_reply_is_asked_again(nothing):
    one, two, three = (said("user", text) for text in ("one", "two", "three"))
    reply = said("assistant", "a")
    made = inputs(dspy.Predict(Chat), [one, nothing, two, reply, three])
    assert made["history"].messages == [{"question": "one\n\ntwo", "answer": "a"}]
    assert made["question"] == "three"
    made = inputs(dspy.Predict(Chat), [nothing, one, reply, two, nothing, three])
    assert made["history"].messages == [{"question": "one", "answer": "a"}]
    assert made["question"] == "two\n\nthree"


def test_a_stopped_reply_of_vercels_client_is_no_answer():
    stopped = {"role": "assistant", "parts": [{"type": "step-start"}]}
    asked = [{"role": "user", "parts": [words(text)]} for text in ("one", "two")]
    made = inputs(dspy.Predict(Chat), [asked[0], stopped, asked[1]], wire=vercel)
    assert made == {"history": dspy.History(messages=[]), "question": "one\n\ntwo"}


def call(name):
    return {"id": name, "type": "function", "function": {"name": name, "arguments": '{"x": 1}'}}


def test_what_a_history_has_no_place_for_is_written_in_front_of_the_last_message():
    messages = [said("system", "Be brief."), *TWO_TURNS]
    made = inputs(dspy.Predict(Chat), messages)
    assert len(made["history"].messages) == 2
    assert made["question"] == "System: Be brief.\n\nUser: Which is larger?"


def test_an_input_called_system_takes_the_systems_messages():
    signature = Chat.prepend("system", dspy.InputField(), type_=str | None)
    messages = [said("system", "Be brief."), said("developer", "Be kind."), *TWO_TURNS]
    made = inputs(dspy.Predict(signature), messages)
    assert made["system"] == "Be brief.\n\nBe kind."
    assert made["question"] == "Which is larger?"
    assert inputs(dspy.Predict(signature), TWO_TURNS)["system"] is None


def test_results_of_tools_that_the_page_ran_are_not_lost():
    messages = [
        *TWO_TURNS,
        said("assistant", None, tool_calls=[call("look")]),
        said("tool", "Berlin: 3.7 M", tool_call_id="look"),
    ]
    made = inputs(dspy.Predict(Chat), messages)
    assert len(made["history"].messages) == 2
    assert made["question"] == (
        'User: Which is larger?\n\nAssistant called look: {"x": 1}\n\n'
        "Tool look returned: Berlin: 3.7 M"
    )


class Seen(dspy.Signature):
    """Say what is to be seen."""

    history: dspy.History = dspy.InputField()
    image: dspy.Image | None = dspy.InputField()
    question: str = dspy.InputField()
    answer: str = dspy.OutputField()


def test_a_turns_image_is_in_its_turn():
    made = inputs(
        dspy.Predict(Seen),
        [said("user", [picture(), words("What?")]), said("assistant", "A cat."), said("user", "?")],
    )
    assert made["history"].messages == [
        {"image": dspy.Image(PNG), "question": "What?", "answer": "A cat."}
    ]
    assert made["image"] is None


def test_an_image_that_got_no_reply_is_seen_with_what_is_asked_next():
    nothing = said("assistant", "")
    first = [said("user", [picture(), words("What?")]), nothing]
    made = inputs(dspy.Predict(Seen), [*first, said("user", "Well?")])
    assert (made["image"], made["question"]) == (dspy.Image(PNG), "What?\n\nWell?")
    made = inputs(dspy.Predict(Seen), [*first, said("user", [picture(JPG), words("And this?")])])
    assert (made["image"], made["question"]) == (dspy.Image(JPG), "[image]\n\nWhat?\n\nAnd this?")
    several = dspy.Predict("history: dspy.History, images: list[dspy.Image], question -> answer")
    made = inputs(several, [*first, *first, said("user", [picture(JPG), words("And this?")])])
    assert made["images"] == [dspy.Image(PNG), dspy.Image(PNG), dspy.Image(JPG)]


def test_what_the_client_kept_of_other_output_fields_is_in_the_turn():
    program = dspy.ChainOfThought("history: dspy.History, question -> tags: list[str], answer")
    own = {"streamll": {"part": "r-1", "field": "reasoning"}}
    parts = [
        {"type": "reasoning", "text": "thi", "providerMetadata": own},
        {"type": "data-tags", "data": data("tags", ["a"], "partial")},
        {"type": "data-tags", "data": data("tags", ["a", "b"], "complete")},
        {"type": "reasoning", "text": "nk", "providerMetadata": own},  # which was resumed
        {"type": "reasoning", "text": "hm", "providerMetadata": None},
        words("yes"),
        {"type": "data-weather", "data": {"state": "sunny"}},
        {"type": "data-other", "data": data("other", 1, "complete")},
    ]
    messages = [
        {"role": "user", "parts": [words("q")]},
        {"role": "assistant", "parts": parts},
        {"role": "user", "parts": [words("r")]},
    ]
    made = inputs(program, messages, wire=vercel)
    assert made["history"].messages == [
        {"question": "q", "tags": ["a", "b"], "reasoning": "think", "answer": "yes"}
    ]


def data(field, value, state):
    return {"field": field, "predictor": "self", "value": value, "state": state}


def test_text_of_superseded_attempts_and_what_was_corrected_is_not_what_was_said():
    def part(name, text, kind="text"):
        return {"type": kind, "text": text, "providerMetadata": {"streamll": {"part": name}}}

    parts = [
        part("1", "wrong"),
        {"type": "data-superseded", "data": {"parts": ["1"]}},
        part("2", "nearl"),
        part("2", "y"),
        {"type": "data-corrected", "data": {"part": "2", "text": "right"}},
    ]
    messages = [
        {"role": "user", "parts": [words("q")]},
        {"role": "assistant", "parts": parts},
        {"role": "user", "parts": [words("r")]},
    ]
    made = inputs(dspy.Predict(Chat), messages, wire=vercel)
    assert made["history"].messages == [{"question": "q", "answer": "right"}]


def test_text_that_a_client_was_sent_again_is_said_once():
    """A part says where in its field it begins, in UTF-16 code units."""

    def part(text, offset):
        own = {"streamll": {"part": "1", "field": "answer", "offset": offset}}
        return {"type": "text", "text": text, "providerMetadata": own}

    for parts in (
        [part("so 🎉 i", 0), part("so 🎉 it is", 0)],  # the whole again
        [part("so 🎉 i", 0), part("t is", 7)],  # the rest
        [part("so 🎉 it", 0), part(" it is", 5)],
    ):
        messages = [
            {"role": "user", "parts": [words("q")]},
            {"role": "assistant", "parts": parts},
            {"role": "user", "parts": [words("r")]},
        ]
        made = inputs(dspy.Predict(Chat), messages, wire=vercel)
        assert made["history"].messages == [{"question": "q", "answer": "so 🎉 it is"}]


# --- lists of messages ---------------------------------------------------------------------------


class Said(BaseModel):
    role: Literal["system", "user", "assistant", "tool"]
    content: str


class SaidDict(TypedDict):
    role: str
    content: str


@pytest.mark.parametrize("item", [dict, dict[str, str], Said, SaidDict], ids=str)
def test_a_list_of_messages_takes_them_all(item):
    def program(messages: list[item]):  # the annotation is not a text here
        """Takes a conversation."""

    program.__annotations__ = {"messages": list[item]}
    messages = [said("system", "Be brief."), *TWO_TURNS]
    [taken] = inputs(program, messages).values()
    expected = [Said(**each) for each in messages] if item is Said else messages
    assert taken == expected


def test_a_model_without_a_program_is_given_the_messages():
    def program(messages):
        """Has no annotation."""

    assert inputs(program, TWO_TURNS) == {"messages": TWO_TURNS}
    assert inputs(dspy.LM("openai/x"), TWO_TURNS) == {"messages": TWO_TURNS}


def test_a_list_called_history_takes_the_earlier_ones():
    program = dspy.Predict("chat_history: list[dict], question -> answer")
    made = inputs(program, TWO_TURNS)
    assert made == {"chat_history": TWO_TURNS[:-1], "question": "Which is larger?"}


def test_a_message_that_the_list_does_not_take_is_named():
    program = dspy.Predict(
        dspy.Signature({"messages": (list[Said], dspy.InputField())}).append(
            "answer", dspy.OutputField()
        )
    )
    found = problems(program, [said("user", [words("a"), picture()])])
    assert "valid string" in found["inputs.messages[0].content"]


# --- one text ------------------------------------------------------------------------------------


def test_a_single_message_is_the_text_itself():
    assert inputs(dspy.Predict("question -> answer"), TWO_TURNS[:1]) == {
        "question": "What is the capital of France?"
    }


def test_a_program_with_one_text_is_given_the_whole_conversation_in_it():
    made = inputs(dspy.Predict("question -> answer"), [said("system", "Be brief."), *TWO_TURNS])
    assert made == {
        "question": "System: Be brief.\n\n"
        "User: What is the capital of France?\n\nAssistant: Paris\n\n"
        "User: And of Germany?\n\nAssistant: Berlin\n\n"
        "User: Which is larger?"
    }


def test_other_inputs_are_given_beside_the_messages():
    program = dspy.Predict("context, question, style: Literal['short', 'long'] -> answer")
    made = inputs(program, [said("user", "q")], {"context": "c", "style": "short"})
    assert made == {"context": "c", "question": "q", "style": "short"}
    assert problems(program, [said("user", "q")], {"style": "odd"}) == {
        "inputs.style": "Input should be 'short' or 'long'",
        "inputs.question": "qa needs the input 'question' (str)",
    }


def test_a_required_text_goes_before_an_optional_one():
    def program(hint: str = "none", *, question: str):
        """Answers."""

    program.__annotations__ = {"hint": str, "question": str}
    assert inputs(program, [said("user", "q")]) == {"question": "q"}


class Size(enum.Enum):
    small = "s"


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [(int, "5", 5), (list[int], "[1, 2]", [1, 2]), (Size, "s", Size.small), (bool, "yes", True)],
)
def test_a_message_is_read_as_the_only_input_is_annotated(kind, text, value):
    def program(what):
        """Takes one value."""

    program.__annotations__ = {"what": kind}
    assert inputs(program, [said("user", text)]) == {"what": value}
    assert "Input should be" in problems(program, [said("user", "\x00")]).popitem()[1]
    found = problems(program, [said("user", text), said("assistant", "a"), said("user", text)])
    assert "no text input for the messages before the last" in found["messages"]
    assert "from_messages" in found["messages"]


# --- images, sounds, files -----------------------------------------------------------------------


class Media(dspy.Signature):
    """Take everything."""

    question: str = dspy.InputField()
    pictures: list[dspy.Image] = dspy.InputField(default=[])
    sound: dspy.Audio | None = dspy.InputField()
    paper: dspy.File | None = dspy.InputField()
    answer: str = dspy.OutputField()


def test_attachments_of_openai():
    content = [
        words("q"),
        picture(),
        picture("https://example.org/cat.png"),
        {"type": "input_audio", "input_audio": {"data": WAV, "format": "mp3"}},
        {"type": "file", "file": {"file_data": PDF, "filename": "a.pdf"}},
    ]
    made = inputs(dspy.Predict(Media), [said("user", content)])
    assert made["pictures"] == [dspy.Image(PNG), dspy.Image("https://example.org/cat.png")]
    assert (made["sound"].data, made["sound"].audio_format) == (WAV, "mp3")
    assert made["paper"] == dspy.File(file_data=PDF, filename="a.pdf")


def test_attachments_of_vercel():
    def file(kind, url, name=None):
        return {"type": "file", "mediaType": kind, "url": url, "filename": name}

    sound = f"data:audio/wav;base64,{WAV}"
    parts = [
        words("q"),
        file("image/png", PNG),
        file("audio/wav", sound),
        file("application/pdf", PDF, "a.pdf"),
    ]
    made = inputs(dspy.Predict(Media), [{"role": "user", "parts": parts}], wire=vercel)
    assert made["pictures"] == [dspy.Image(PNG)]
    assert (made["sound"].data, made["sound"].audio_format) == (WAV, "wav")
    assert made["paper"] == dspy.File(file_data=PDF, filename="a.pdf")


def test_agui_has_the_other_fields_of_a_turn_in_its_reasoning():
    program = dspy.Predict("history: dspy.History, question -> reasoning, answer")

    def thought(field, text):
        return {"role": "reasoning", "content": text, "metadata": {"streamll": {"field": field}}}

    messages = [
        said("user", "q"),
        thought("thinking", "hm"),
        thought("reasoning", "because"),
        {"role": "reasoning", "content": "another agent's", "metadata": {"streamll": 3}},
        said("assistant", "yes"),
        thought("reasoning", "of a run that was cut off"),
        said("user", "sure?"),
    ]
    made = inputs(program, messages, wire=agui)
    assert made["history"].messages == [{"question": "q", "reasoning": "because", "answer": "yes"}]
    assert made["question"] == "sure?"


def test_attachments_of_agui():
    def part(kind, source, **more):
        return {"type": kind, "source": source, **more}

    content = [
        words("q"),
        part("image", {"type": "url", "value": "https://example.org/cat.png"}),
        {"type": "binary", "mimeType": "image/png", "data": PNG.partition(",")[2]},
        part("audio", {"type": "data", "value": WAV, "mimeType": "audio/x-wav"}),
        part("document", {"type": "file", "value": "file-1", "provider": "openai"}),
    ]
    made = inputs(dspy.Predict(Media), [said("user", content)], wire=agui)
    assert made["pictures"] == [dspy.Image("https://example.org/cat.png"), dspy.Image(PNG)]
    assert (made["sound"].data, made["sound"].audio_format) == (WAV, "wav")
    assert made["paper"] == dspy.File(file_id="file-1")


def test_an_attachment_that_no_input_takes_is_refused_with_its_place():
    found = problems(dspy.Predict("question -> answer"), [said("user", [words("q"), picture()])])
    assert "no input for this image (question: str)" in found["messages[0].content[1]"]


def test_an_image_too_many_is_refused():
    program = dspy.Predict("image: dspy.Image, question -> answer")
    found = problems(program, [said("user", [words("q"), picture(), picture(JPG)])])
    assert list(found) == ["messages[0].content[2]"]


def test_an_earlier_image_stays_in_sight():
    program = dspy.Predict("image: dspy.Image, question -> answer")
    first = [said("user", [words("q"), picture()]), said("assistant", "a cat")]
    assert inputs(program, [*first, said("user", "sure?")])["image"] == dspy.Image(PNG)
    made = inputs(program, [*first, said("user", [picture(JPG), words("and that?")])])
    assert made["image"] == dspy.Image(JPG)
    assert made["question"].startswith("User: [image]\n\nq\n\nAssistant: a cat")
    several = dspy.Predict("images: list[dspy.Image], question -> answer")
    made = inputs(several, [*first, said("user", [picture(JPG), words("and that?")])])
    assert made["images"] == [dspy.Image(PNG), dspy.Image(JPG)]


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("/etc/passwd", "should be data:"),
        ("file:///etc/passwd", "should be data:"),
        ("cat.png", "should be data:"),
        ("data:image/png,x", "a data URL is data:<type>;base64,<data>"),
        ("data:x;base64,eA==", "a data URL is data:<type>;base64,<data>"),
        ("data:image/png;base64,@@@", "is not base64"),
    ],
)
def test_an_image_is_an_address_or_data_and_never_a_file_of_the_server(url, reason):
    program = dspy.Predict("image: dspy.Image, question -> answer")
    found = problems(program, [said("user", [words("q"), picture(url)])])
    assert list(found) == ["messages[0].content[1]"]
    assert found["messages[0].content[1]"].startswith(reason)


class Album(BaseModel):
    cover: dspy.Image


def test_an_image_inside_a_model_is_refused_where_dspy_would_open_files():
    program = dspy.Predict(
        dspy.Signature({"album": (Album, dspy.InputField())}).append("answer", dspy.OutputField())
    )
    served = Served(name="qa", program=program)
    if opens_files():
        with pytest.raises(InvalidInputs, match="3.3 and later"):
            served.convert({"album": {"cover": {"url": PNG}}})
    else:
        made = served.convert({"album": {"cover": {"url": PNG}}})
        assert made == {"album": Album(cover=dspy.Image(PNG))}
    with pytest.raises(InvalidInputs):
        served.convert({"album": {"cover": {"url": __file__}}})


class Photo(dspy.Image):
    pass


class Captioned(dspy.Image):
    caption: str = ""


class Pair(NamedTuple):
    left: dspy.Image
    right: Photo


Shot = NewType("Shot", dspy.Image)
Photos = TypeAliasType("Photos", list[Photo])
Tree = TypeAliasType("Tree", list[dspy.Image])
if sys.version_info >= (3, 12):
    exec("type Tree = dspy.Image | list[Tree]")  # which names itself
DATA = {
    **dict.fromkeys([dspy.Image, Photo, Captioned], PNG),
    dspy.Audio: f"data:audio/wav;base64,{WAV}",
    dspy.File: PDF,
}


def converted(annotation, value):
    def program(given):
        raise NotImplementedError

    program.__annotations__["given"] = annotation
    return Served(name="p", program=program).convert({"given": value})["given"]


@pytest.mark.parametrize(
    ("annotation", "cls"),
    [
        *((each, each) for each in (dspy.Image, dspy.Audio, dspy.File, Photo, Captioned)),
        *((Shot, dspy.Image), (NewType("Note", dspy.File), dspy.File)),
        *((Annotated[each, 1], each) for each in (dspy.Image, dspy.Audio, dspy.File, Photo)),
        *((TypeAliasType("Alias", each), each) for each in (dspy.Image, Photo)),
    ],
)
@pytest.mark.parametrize("in_list", [False, True])
@pytest.mark.parametrize("optional", [False, True])
def test_media_are_made_of_data_and_never_of_a_file(annotation, cls, in_list, optional):
    whole = list[annotation] if in_list else annotation
    whole = Union[whole, None] if optional else whole  # noqa: UP007 - of an alias
    made = converted(whole, [DATA[cls]] if in_list else DATA[cls])
    assert [type(each) for each in (made if in_list else [made])] == [cls]
    key = {dspy.Audio: "data", dspy.File: "file_data"}.get(cls, "url")
    for path in (__file__, {key: __file__}):
        with pytest.raises(InvalidInputs):
            converted(whole, [path] if in_list else path)


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (Photos, ["*"]),
        (dict[str, Annotated[Photo, 1]], {"a": "*"}),
        (Tree, [{"url": "*"}]),
        (Pair, [{"url": "*"}, {"url": "*"}]),
        (Captioned, {"url": "*", "caption": "A cat."}),
        (list[Album | dict[str, Album]], [{"cover": {"url": "*"}}]),
    ],
)
def test_no_file_is_opened_wherever_an_image_stands(annotation, value):
    """Older versions of DSPy, which would, may be given less."""

    def of(url):
        return json.loads(json.dumps(value).replace("*", url))

    if opens_files():
        with contextlib.suppress(InvalidInputs):
            converted(annotation, of(PNG))
    else:
        assert PNG in json.dumps(plain(converted(annotation, of(PNG))))
    with pytest.raises(InvalidInputs):
        converted(annotation, of(__file__))


def test_a_subclass_of_an_image_takes_what_it_takes_itself():
    class Numbered(dspy.Image):
        @model_validator(mode="before")
        @classmethod
        def by_number(cls, value):
            return {"url": PNG} if value == 17 else value

    if not opens_files():
        assert converted(Numbered, 17) == Numbered(url=PNG)
    assert converted(Numbered, PNG) == Numbered(url=PNG)


def test_an_attachment_becomes_the_subclass_that_the_program_wants():
    program = dspy.Predict(
        dspy.Signature("question -> answer").prepend(
            "photo", dspy.InputField(), Annotated[Photo, 1]
        )
    )
    made = inputs(program, [said("user", [words("q"), picture()])])
    assert type(made["photo"]) is Photo


# --- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize("wire", [openai, vercel, agui], ids=["openai", "vercel", "agui"])
@pytest.mark.parametrize(
    ("messages", "place"),
    [
        (None, "messages"),
        ({}, "messages"),
        ([None], "messages[0]"),
        ([{"role": 5}], "messages[0]"),
        ([said("king", "q")], "messages[0].role"),
        ([said("user", 5)], "messages[0].content"),
        ([said("user", [5])], "messages[0].content[0]"),
        ([said("user", [{"type": "text"}])], "messages[0].content[0].text"),
        ([said("user", [{"type": "hologram"}])], "messages[0].content[0]"),
        ([said("assistant", "a")], "messages"),
        ([], "messages"),
    ],
)
def test_what_are_no_messages_is_refused_with_the_place(wire, messages, place):
    assert list(problems(dspy.Predict(Chat), messages, wire=wire)) == [place]


def test_every_problem_of_a_request_is_named_at_once():
    found = problems(
        dspy.Predict(Media),
        [said("user", [words("q"), picture("cat.png"), picture("dog.png")])],
        {"sound": 5, "odd": 1},
    )
    assert list(found) == [
        "inputs.sound",
        "inputs.odd",
        "messages[0].content[1]",
        "messages[0].content[2]",
    ]


# --- from_messages -------------------------------------------------------------------------------


def test_from_messages_is_given_every_wires_messages_in_one_form():
    given = []

    def own(messages):
        given.append(messages)
        return {"question": "own"}

    asked = said("user", [words("q"), picture()])
    tooled = said("assistant", "", tool_calls=[call("t")])
    answered = said("tool", "r", tool_call_id="t")
    made = inputs(dspy.Predict("question -> answer"), [asked, tooled, answered], from_messages=own)
    assert made == {"question": "own"}
    assert given == [[{**asked, "content": "q", "parts": asked["content"]}, tooled, answered]]


def test_what_from_messages_returns_is_checked_and_what_it_raises_is_told():
    def refuses(messages):
        raise ValueError("say please")

    program = dspy.Predict("question, count: int -> answer")
    with pytest.raises(ValueError, match="say please"):
        inputs(program, TWO_TURNS, from_messages=refuses)
    made = inputs(program, TWO_TURNS, {"count": "5"}, from_messages=lambda m: {"question": "q"})
    assert made == {"question": "q", "count": 5}
    found = problems(program, TWO_TURNS, from_messages=lambda m: {"question": 1})
    assert list(found) == ["inputs.question", "inputs.count"]
    with pytest.raises(TypeError, match="from_messages of qa returned list"):
        inputs(program, TWO_TURNS, from_messages=list)
