"""What a request asks of the list of runs: ``GET /runs?program=&status=&q=&context.key=&since=&until=``."""

from __future__ import annotations

import math
import re

from starlette.requests import Request

from streamll.core.run_view import CANCELLED, ENDED, FAILED, RUNNING
from streamll.serve.log.index import LISTED_RUNS, LOST
from streamll.serve.log.search import RunFilter
from streamll.serve.web.requests import HTTPRefusal

STATES = (RUNNING, ENDED, FAILED, CANCELLED, LOST)
SEARCH_CHARACTERS = 200
_CONTEXT = "context."


def run_filter_in(request: Request) -> tuple[RunFilter, int]:
    """What the runs have to be, and how many are asked for; ``HTTPRefusal`` (400) if that is unclear."""
    query = request.query_params
    statuses = frozenset(query.getlist("status"))
    if not statuses <= set(STATES):
        raise HTTPRefusal(400, f"status is one of {', '.join(STATES)}")
    text = query.get("q", "")
    if len(text) > SEARCH_CHARACTERS:
        raise HTTPRefusal(400, f"q is a text of at most {SEARCH_CHARACTERS} characters")
    text_of_limit = query.get("limit", str(LISTED_RUNS)).lstrip("0")
    limit = int(text_of_limit) if re.fullmatch("[0-9]{1,9}", text_of_limit) else 0
    if not 0 < limit <= LISTED_RUNS:
        raise HTTPRefusal(400, f"limit is a number from 1 to {LISTED_RUNS}")
    context = {
        name.removeprefix(_CONTEXT): value
        for name, value in query.items()
        if name.startswith(_CONTEXT)
    }
    if "" in context:
        raise HTTPRefusal(400, "write the key of the context as well: context.user=anna")
    wanted = RunFilter(
        program=query.get("program"),
        statuses=statuses,
        context=context,
        since=_time_in(request, "since", -math.inf),
        until=_time_in(request, "until", math.inf),
        words=tuple(text.casefold().split()),
    )
    return wanted, limit


def _time_in(request: Request, name: str, default: float) -> float:
    text = request.query_params.get(name)
    try:
        time = default if text is None else float(text)
    except ValueError:
        time = math.nan
    if math.isnan(time):
        raise HTTPRefusal(400, f"{name} is a time in seconds since the epoch, as in started_at")
    return time
