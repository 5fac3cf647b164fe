"""A running program in the browser: fields, tools, turns and a timeline, also for finished runs.

On a terminal it runs until Enter is pressed. The address is printed and, if possible, opened.
"""

import json
import sys
import time
import urllib.request

import dspy
from _model import language_model

import streamll


def price(article: str) -> float:
    """The price of an article, in euros."""
    return {"pencil": 0.9, "notebook": 3.4}.get(article, 1.0)


REPLIES = [
    {
        "next_thought": "Two prices are needed; the pencil's first.",
        "next_tool_name": "price",
        "next_tool_args": {"article": "pencil"},
    },
    {
        "next_thought": "Now the notebook.",
        "next_tool_name": "price",
        "next_tool_args": {"article": "notebook"},
    },
    {"next_thought": "Both are known.", "next_tool_name": "finish", "next_tool_args": {}},
    {"reasoning": "0.90 and 3.40 make 4.30.", "answer": "Together they cost 4.30 euros."},
]

with language_model(*REPLIES) as lm, streamll.watch(web=True) as watching:
    dspy.configure(lm=lm)
    shopping = dspy.ReAct("question -> answer", tools=[price])
    print(f"The page is at {watching.url}", flush=True)
    answer = shopping(question="What do a pencil and a notebook cost together?").answer
    print(f"The program returned: {answer}")
    if sys.stdin.isatty():
        input("Enter ends it. ")
    else:  # the page makes the same request
        address, _, token = watching.url.partition("#token=")
        request = urllib.request.Request(f"{address}runs")
        request.add_header("Authorization", f"Bearer {token}")
        runs = []
        while not any("ended_at" in run for run in runs):
            time.sleep(0.02)
            with urllib.request.urlopen(request) as reply:
                runs = json.load(reply)["runs"]
        print(f"The page lists {runs[0]['program']}: {runs[0]['status']}")
