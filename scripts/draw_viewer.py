"""Take a picture of the viewer: a real run of a program, in a real browser.

    python scripts/draw_viewer.py docs/pictures/viewer.png

A practice model answers, so no key is needed. Needs playwright and Chromium, both of which
``make test`` brings, and the extra ``streamll[serve]``.

The text that the page shows is kept in the picture's file (as a PNG's text chunk, which no viewer of
pictures shows): ``tests/serve/viewer/test_picture.py`` compares it with a run of its own.
"""

from __future__ import annotations

import logging
import struct
import sys
import zlib
from pathlib import Path
from typing import Any, Literal

import dspy
from pydantic import BaseModel

import streamll
from streamll.testing import PracticeServer

sys.path.append(str(Path(__file__).parent.parent / "tests" / "support"))
from chromium import launched

SIZE = {"width": 1100, "height": 960}
FONT = '* { font-family: "DejaVu Sans", sans-serif }'  # a bare machine has no other
PACE_S = 0.012  # between two pieces of the model's output
ENDED = "() => document.querySelectorAll('#runs .dot[data-status=ended]').length === 2"


class Finding(BaseModel):
    file: str
    line: int
    severity: Literal["low", "medium", "high"]
    finding: str


def read_file(name: str) -> str:
    """The text of a file."""
    return f"# {name}"


class Review(dspy.Module):
    """Chooses a file, reads it, lists what is wrong and sums up."""

    def __init__(self) -> None:
        self.choose = dspy.ChainOfThought("pull_request -> file")
        self.read = dspy.Tool(read_file)
        self.inspect = dspy.Predict(
            dspy.Signature("code -> findings: list[Finding]", custom_types={"Finding": Finding})
        )
        self.summarize = dspy.Predict("findings -> summary")

    def forward(self, pull_request: str) -> dspy.Prediction:
        streamll.status("Looking for what has changed")
        file = self.choose(pull_request=pull_request).file
        code = self.read(name=file)
        findings = self.inspect(code=code).findings
        return self.summarize(findings=findings)


REPLIES: list[dict[str, object]] = [
    {
        "reasoning": "The query is built in the new handler, so that file comes first.",
        "file": "app/orders.py",
    },
    {
        "findings": [
            {
                "file": "app/orders.py",
                "line": 41,
                "severity": "high",
                "finding": "SQL from user input",
            },
            {
                "file": "app/orders.py",
                "line": 58,
                "severity": "medium",
                "finding": "A retry without a limit",
            },
            {
                "file": "app/orders.py",
                "line": 3,
                "severity": "low",
                "finding": "An import that is not used",
            },
        ]
    },
    {
        "summary": "Do not merge yet: line 41 puts a customer's text into SQL. Bind it as a parameter, "
        "limit the retries at line 58, and remove the import."
    },
]


def runs(server: PracticeServer) -> None:
    """Two runs: a question, and the review that is shown."""
    server.script({"answer": "Because a parameter is never read as SQL."}, *REPLIES)
    with dspy.context(lm=server.lm(model="openai/practice-model", cache=False)):
        dspy.Predict("question -> answer")(question="Why bind parameters?")
        Review()(pull_request="#218")


def shown(browser: Any, pace: float = PACE_S) -> tuple[bytes, str]:
    """A picture of the runs in the viewer, and the text on it."""
    with (
        PracticeServer(pace=pace) as server,
        streamll.watch(web=True) as watching,
        browser.page(viewport=SIZE, bypass_csp=True) as page,
    ):
        page.goto(str(watching.url))
        page.add_style_tag(content=FONT)
        runs(server)
        page.wait_for_function(ENDED)
        page.locator("#runs button").first.click()  # the latest, whichever it began with
        page.get_by_text("remove the import").first.wait_for()
        page.wait_for_selector("#status[data-status=ended]")
        page.wait_for_timeout(500)  # milliseconds; what moves has come to rest
        page.mouse.move(700, 500)
        page.mouse.wheel(0, -10_000)
        page.wait_for_timeout(500)
        text = page.locator("body").inner_text()
        picture = page.screenshot()
    return picture, text


# --- a text in a PNG (https://www.w3.org/TR/png-3/#11iTXt) ------------------------------------------

KEYWORD = b"Description"
END = b"\0\0\0\0IEND"


def with_text(picture: bytes, text: str) -> bytes:
    """The picture with an ``iTXt`` chunk of ``text`` before its end."""
    chunk = b"iTXt" + KEYWORD + b"\0" * 5 + text.encode()
    length, checksum = struct.pack(">I", len(chunk) - 4), struct.pack(">I", zlib.crc32(chunk))
    before, end, after = picture.rpartition(END)
    return before + length + chunk + checksum + end + after


def text_in(picture: bytes) -> str:
    """What ``with_text`` has put there."""
    _, _, rest = picture.partition(b"iTXt" + KEYWORD + b"\0" * 5)
    return rest.rpartition(END)[0][:-4].decode()


def main(target: str) -> None:
    logging.getLogger("streamll").setLevel(logging.ERROR)
    with launched() as browser:
        picture, text = shown(browser)
    Path(target).write_bytes(with_text(picture, text))


if __name__ == "__main__":
    main(sys.argv[1])
