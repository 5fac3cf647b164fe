"""``watch``: show every DSPy program of this process live, without changing its code."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack

from streamll.capture.hooks.places import install
from streamll.capture.run import options
from streamll.capture.run.fields import FieldSelection
from streamll.capture.run.options import CaptureOptions, watch_with
from streamll.configuration import Receiver, checked_sinks
from streamll.exports import imported


class Watching(ExitStack):
    """What ``watch`` returns. Leaving it as a ``with`` block restores what was watched before.

    ``url`` is the address of the page, with ``web=True``.
    """

    url: str | None = None


def watch(
    *, fields: str | Iterable[str] = "*", sinks: Iterable[Receiver] | None = None, web: bool = False
) -> Watching:
    """Show every DSPy program of this process: fields, steps, tools, turns, retries, cost.

    One line in a script or notebook, before the program runs. Modules that are instrumented with
    ``fields`` of their own keep them. ``unwatch()`` or leaving a ``with`` block ends it.

    Args:
        fields: output fields to stream; all by default. A name that a program does not have is
            no error here, since the programs are not known.
        sinks: get the events; the terminal by default.
        web: show the programs in a browser instead: on a page of this machine, whose address is
            printed, for as long as this process lives.

    Raises:
        ConfigurationError: ``web`` without the extra ``streamll[serve]``.
    """
    from streamll.sinks.terminal import DEFAULT

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
