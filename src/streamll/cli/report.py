"""``streamll report FILE``: one HTML file that shows what happened, with its timeline."""

from __future__ import annotations

from pathlib import Path

from streamll.cli.replay import events_of


def write_report(path: Path, output: Path | None) -> None:
    from streamll.serve.viewer.report import report_html

    target = output or path.with_suffix(".html")
    target.write_text(report_html(events_of(path)), "utf-8")
    print(target)
