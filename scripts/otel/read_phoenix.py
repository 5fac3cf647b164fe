"""``read_phoenix.py URL``: the one session of the project "qa", as Phoenix's own client reads it."""

import json
import sys
from collections.abc import Mapping
from typing import Any

from phoenix.client import Client

client = Client(base_url=sys.argv[1])
[session] = client.sessions.list(project_name="qa")


def said(attributes: Mapping[str, Any], side: str) -> str:
    """What is shown of a span: its messages, or for what has none its value."""
    messages = [
        str(text)
        for name, text in sorted(attributes.items())
        if name.startswith(f"llm.{side}_messages.") and name.endswith(".message.content")
    ]
    parameters = [str(text) for name, text in attributes.items() if name.startswith("tool.param")]
    values = parameters if side == "input" else []
    return "\n".join(messages or values or [str(attributes.get(f"{side}.value", ""))])


found = {
    "session": session["session_id"],
    "tokens": [session["token_count_prompt"], session["token_count_completion"]],
    "spans": [
        {
            "name": span["name"],
            "kind": span["span_kind"],
            "input": said(span["attributes"], "input"),
            "output": said(span["attributes"], "output"),
            "model": span["attributes"].get("llm.model_name"),
        }
        for span in client.spans.get_spans(project_identifier="qa")
    ],
}
print(json.dumps(found))
