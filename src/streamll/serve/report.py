"""A report: the viewer and the events of runs in one self-contained HTML file."""

from __future__ import annotations

import base64
import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping

from msgspec.structs import asdict

from streamll.core.events import Event, Thinking, TokenEvent
from streamll.core.wire import encode
from streamll.serve.page import STATIC, document, program


def report_html(events: Iterable[Event]) -> str:
    """The page. What a model said is data in it: it can neither close its element nor be executed."""
    events = list(events)
    script = program(*(["vendor/markdown.js"] if _has_markdown(events) else []))
    style = (STATIC / "viewer.css").read_text("utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )
    page = document("").replace(
        '<meta name="color-scheme"',
        f'<meta http-equiv="content-security-policy" content="{policy}">\n'
        '<meta name="color-scheme"',
    )
    page = page.replace('<link rel="stylesheet" href="viewer.css">', f"<style>\n{style}</style>")
    data = ",\n".join(_safe(encode(event).decode()) for event in events)
    closing = (
        f'<script type="application/json" id="events">[{data}]</script>\n'
        f"<script>{script}</script>\n</body>"
    )
    head, _, tail = page.rpartition("</body>")
    return f"{head}{closing}{tail}"


def _has_markdown(events: Iterable[Event]) -> bool:
    """Whether the page will want to read a text as Markdown: it looks for the same."""
    [pattern] = re.findall("const MARKDOWN = /(.*)/m;", (STATIC / "markdown.js").read_text("utf-8"))
    texts: dict[object, list[str]] = defaultdict(list)
    for number, event in enumerate(events):
        place = (event.identity.run_id, event.identity.call_id, event.identity.attempt)
        if isinstance(event, TokenEvent):
            texts[place, event.field].append(event.token)
        elif isinstance(event, Thinking):
            texts[place, None].append(event.text)
        else:
            for value in asdict(event).values():
                parts = value.values() if isinstance(value, Mapping) else (value,)
                texts[number] += [f"{part}\n\n" for part in parts if isinstance(part, str)]
    found = re.compile(pattern, re.MULTILINE)
    return any(found.search("".join(text)) for text in texts.values())


def _safe(json: str) -> str:
    """JSON for inside a script element."""
    return json.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
