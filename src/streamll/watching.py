"""``watch``: show every DSPy program of this process live, without changing its code."""

from __future__ import annotations

import html
from collections.abc import Iterable
from contextlib import ExitStack
from urllib.parse import urlsplit

from streamll.capture.hooks.places import install
from streamll.capture.run import options
from streamll.capture.run.fields import FieldSelection
from streamll.capture.run.options import CaptureOptions, watch_with
from streamll.configuration import Receiver, checked_guards, checked_sinks
from streamll.exports import imported
from streamll.guards import Guard

FRAME_HEIGHT_PX = 640


class Watching(ExitStack):
    """What ``watch`` returns. Leaving it as a ``with`` block restores what was watched before.

    ``url`` is the address of the page, with ``web=True``. As a notebook cell's last line it shows that
    page in the cell.
    """

    url: str | None = None

    def __repr__(self) -> str:
        where = "in the terminal, or by its sinks"
        if self.url is not None:
            where = f"at {self.url.partition('#')[0]}"  # without its token
        return f"<streamll.watch: every program of this process is shown {where}>"

    def _repr_html_(self) -> str | None:
        """For notebooks; with ``web=True``."""
        if self.url is None:
            return None
        url = html.escape(self.url)
        port = urlsplit(self.url).port
        return (
            f'<iframe src="{url}" title="streamll" style="width:100%;height:{FRAME_HEIGHT_PX}px;'
            'border:1px solid rgba(128,128,128,.4);border-radius:6px"></iframe>'
            f'<div style="font-size:smaller;opacity:.8">streamll · <a href="{url}" target="_blank">in a '
            "window of its own</a> · If nothing is shown, the kernel runs on another machine: forward "
            f"its port with <code>ssh -L {port}:127.0.0.1:{port} HOST</code> (VS Code: its Ports view), "
            "then run this cell again.</div>"
        )


def watch(
    *,
    fields: str | Iterable[str] = "*",
    sinks: Iterable[Receiver] | None = None,
    web: bool = False,
    guards: Iterable[Guard] = (),
) -> Watching:
    """Show every DSPy program of this process: fields, steps, tools, turns, retries, cost.

    What they ask (``streamll.ask``) is asked at the terminal; not in a notebook's cells. One line in a script or notebook, before the program runs. Modules that are instrumented with
    ``fields`` of their own keep them. ``unwatch()`` or leaving a ``with`` block ends it.

    Args:
        fields: output fields to stream; all by default. A name that a program does not have is
            no error here, since the programs are not known.
        sinks: get the events; the terminal by default.
        web: show the programs in a browser instead: on a page of this machine, whose address is
            printed, for as long as this process lives. In a notebook, as a cell's last line, the
            page is shown in the cell.
        guards: what no event of the programs may show, of ``streamll.guards``, besides those of
            ``configure``. A field that a program does not have is no error here, either.

    Raises:
        ConfigurationError: ``web`` without the extra ``streamll[serve]``; what is no guard.
    """
    from streamll.sinks.terminal import DEFAULT

    guarded = checked_guards(guards)
    shown = () if sinks is None else checked_sinks(sinks)
    watching = Watching()
    if web:
        view = imported("streamll.serve.viewer.web_view", "watch(web=True)").shared_web_view()
        shown, watching.url = (*shown, view.sink), view.url
    elif sinks is None:
        shown = (DEFAULT,)
    install()
    watching.callback(_watch_with, options.watching)
    _watch_with(
        CaptureOptions(
            selection=FieldSelection([fields] if isinstance(fields, str) else fields),
            sinks=shown,
            guards=guarded,
            checked=False,
        )
    )
    return watching


def unwatch() -> None:
    """End ``watch``. Programs that are running are shown until they end."""
    _watch_with(None)


def _watch_with(wanted: CaptureOptions | None) -> None:
    from streamll.sinks.terminal import DEFAULT

    watch_with(wanted)
    DEFAULT.follow_program(follows=wanted is not None and DEFAULT in (wanted.sinks or ()))
