"""``watch``: every program in the process, live, without touching its code."""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType

from streamll.capture.hooks.places import install
from streamll.capture.run import options
from streamll.capture.run.fields import FieldSelection
from streamll.capture.run.options import CaptureOptions, watch_with
from streamll.configuration import Receiver, checked_sinks


class Watching:
    """What ``watch`` returns; as a ``with`` block it ends the watching, or restores the outer one.

    ``url`` is where the page is, with ``web=True``.
    """

    def __init__(self, before: CaptureOptions | None, url: str | None = None) -> None:
        self._before = before
        self.url = url

    def __enter__(self) -> Watching:  # noqa: PYI034 - Self needs Python 3.11
        """Watching already."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        watch_with(self._before)


def watch(
    *, fields: str | Iterable[str] = "*", sinks: Iterable[Receiver] | None = None, web: bool = False
) -> Watching:
    """Show every DSPy program of this process: fields, steps, tools, turns, retries, cost.

    One line in a script or notebook, before the program runs. Modules that are instrumented with
    ``stream_fields`` of their own keep them. Off again with ``unwatch()`` or as a ``with`` block.

    Args:
        fields: output fields to stream; all by default. A name that a program does not have is
            no error here, since the programs are not known.
        sinks: who shows it; the terminal by default.
        web: show it in a browser instead: a page on this machine, for as long as this process
            lives, whose address is printed.

    Raises:
        ConfigurationError: ``web`` without the extra ``streamll[serve]``.
    """
    from streamll.sinks.terminal import default_terminal

    shown = () if sinks is None else checked_sinks(sinks)
    url = None
    if web:
        from streamll.serve.viewer.web_view import shared_web_view

        view = shared_web_view()
        shown, url = (*shown, view.sink), view.url
    elif sinks is None:
        shown = (default_terminal(),)
    install()
    before = options.watching
    watch_with(
        CaptureOptions(
            selection=FieldSelection([fields] if isinstance(fields, str) else fields),
            sinks=shown,
            checked=False,
        )
    )
    return Watching(before, url)


def unwatch() -> None:
    """End ``watch``; programs that are running are shown to their end."""
    watch_with(None)
