"""``streamll doctor``: the versions involved, what is patched, and what this DSPy lacks."""

from __future__ import annotations

import contextlib
import json
import platform
from collections.abc import Iterator
from importlib import metadata
from itertools import groupby
from typing import Annotated, Any

import typer

from streamll.cli.command import FAILED

PACKAGES = (
    "streamll", "dspy", "litellm", "openai", "anthropic", "httpx", "httpcore", "httpx2",
    "httpcore2", "mcp", "anyio", "msgspec", "h11", "pydantic", "rich", "typer", "redis", "aio-pika",
    "pamqp", "starlette", "uvicorn", "websockets", "opentelemetry-api",
)  # fmt: skip
"""Distributions whose version may matter; those that are installed are shown."""


def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Show versions, what is patched, and what is lost on this DSPy. Exit code 1 if anything is."""
    report = examine()
    in_json = json.dumps(report, indent=2, ensure_ascii=False)
    print(in_json if as_json else "\n".join(in_text(report)))
    if report["missing"]:
        raise typer.Exit(FAILED)


def examine() -> dict[str, Any]:
    """What is installed, replaced and missing, as plain data.

    ``missing`` maps each place that this environment lacks to what does not work without it;
    ``needs_newer_dspy`` names what a DSPy before 3.4 cannot have.
    """
    report: dict[str, Any] = {"versions": dict(_versions()), "sites": [], "private_names": []}
    try:
        from streamll.capture.hooks.places import why_not_streamed
        from streamll.capture.inside_dspy import HAS_ENGINES, NEEDS_ENGINES, PRIVATE_NAMES

        report["sites"] = list(_sites())
        for private in PRIVATE_NAMES:
            missing = "missing" if private.expected else f"new in DSPy {private.since}"
            state = missing if private.find() is None else "found"
            place = {"name": str(private), "state": state, "lost": private.lost}
            report["private_names"].append(place)
        reason = why_not_streamed()
        lost = {"streaming": f"text arrives whole: {reason}"} if reason else {}
        places = (*report["sites"], *report["private_names"])
        lost |= {each["name"]: each["lost"] for each in places if each["state"] == "missing"}
        report["missing"] = lost
        report["needs_newer_dspy"] = [] if HAS_ENGINES else list(NEEDS_ENGINES)
    except Exception as error:  # noqa: BLE001 - of a DSPy that differs in any way, or is not there
        report["missing"] = {"dspy": f"capture does not load ({type(error).__name__}: {error})"}
    return report


def _versions() -> Iterator[tuple[str, str]]:
    yield "python", platform.python_version()
    for package in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            yield package, metadata.version(package)


def _sites() -> Iterator[dict[str, Any]]:
    """Every site in the state it has once everything is installed, which it is meanwhile."""
    from streamll.capture.hooks.places import install, tables_here, why_not_streamed
    from streamll.testing import record_sites

    tables = {**tables_here(), **record_sites.tables_here()}
    install()
    if why_not_streamed() is None:
        for table in tables.values():
            table.install()
    try:
        for name, table in tables.items():
            for site, state in table.states():
                place = {"table": name, "name": str(site), "state": state.value}
                yield {**place, "why": site.why, "lost": site.lost}
    finally:
        for table in tables.values():
            table.uninstall()


def in_text(report: dict[str, Any]) -> Iterator[str]:
    versions, missing = report["versions"], report["missing"]
    width = max(map(len, versions))
    yield from (f"{package:{width}}  {version}" for package, version in versions.items())
    for title, sites in groupby(report["sites"], lambda site: str(site["table"])):
        yield f"\n{title}"
        yield from (f"  {site['name']}: {site['state']}" for site in sites)
    yield "\nPrivate names that are read"
    yield from (f"  {name['name']}: {name['state']}" for name in report["private_names"])
    if newer := report.get("needs_newer_dspy"):
        yield "\nNeeds DSPy 3.4 or newer"
        yield from (f"  {name}" for name in newer)
    if missing:
        yield "\nMissing here, and what is lost without it"
        yield from (f"  {name}: {lost}" for name, lost in missing.items())
    else:
        yield "\nNothing is missing."
