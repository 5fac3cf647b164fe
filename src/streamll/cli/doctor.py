"""``streamll doctor``: the versions involved, what is patched, and what this DSPy lacks."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from importlib import metadata
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streamll.cli.command import FAILED

if TYPE_CHECKING:
    from streamll.patching import PatchTable

PACKAGES = (
    "dspy", "litellm", "openai", "anthropic", "httpx", "httpcore", "httpx2", "httpcore2", "mcp",
    "anyio", "msgspec", "h11", "pydantic", "rich", "typer", "redis", "aio-pika", "pamqp", "starlette",
    "uvicorn", "websockets", "opentelemetry-api",
)  # fmt: skip
"""Distributions whose version may matter; those that are installed are shown."""


def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Show versions, what is patched, and what is lost on this DSPy. Exit code 1 if anything is."""
    report = examine()
    print(in_json(report) if as_json else in_text(report))
    if report["missing"]:
        raise typer.Exit(FAILED)


def examine() -> dict[str, Any]:
    """What is installed, replaced and missing, as plain data.

    ``missing`` maps each place that this environment lacks to what does not work without it.
    """
    report: dict[str, Any] = {"versions": dict(_versions()), "sites": [], "private_names": []}
    try:
        report["sites"] = list(_sites())
        report["private_names"] = list(_private_names())
        report["missing"] = _missing(report)
    except Exception as error:  # noqa: BLE001 - of a DSPy that differs in any way, or is not there
        report["missing"] = {"dspy": f"capture does not load ({type(error).__name__}: {error})"}
    return report


def _missing(report: dict[str, Any]) -> dict[str, str]:
    from streamll.capture.hooks.places import why_not_streamed

    reason = why_not_streamed()
    return {
        **({"streaming": f"text arrives whole: {reason}"} if reason else {}),
        **{
            place["name"]: place["lost"]
            for place in (*report["sites"], *report["private_names"])
            if place["state"] == "missing"
        },
    }


def _versions() -> Iterator[tuple[str, str]]:
    yield "python", platform.python_version()
    for package in ("streamll", *PACKAGES):
        try:
            yield package, metadata.version(package)
        except metadata.PackageNotFoundError:
            continue


def _tables() -> dict[str, PatchTable]:
    from streamll.capture.hooks.places import TABLES
    from streamll.testing.record_sites import RECORDING

    return {**TABLES, "Recording and replaying": RECORDING}


def _sites() -> Iterator[dict[str, Any]]:
    """Every site as it is once everything is installed, which it is for a moment."""
    from streamll.capture.hooks.places import TABLES, install, uninstall, why_not_streamed

    tables = _tables()
    install()
    if why_not_streamed() is None:
        for name in tables:
            tables[name].install()
    try:
        for name, table in tables.items():
            for site, state in table.states():
                yield {
                    "table": name,
                    "name": str(site),
                    "state": state.value,
                    "why": site.why,
                    "lost": site.lost,
                }
    finally:
        uninstall()
        for name in tables.keys() - TABLES.keys():
            tables[name].uninstall()


def _private_names() -> Iterator[dict[str, Any]]:
    from streamll.capture.inside_dspy import PRIVATE_NAMES

    for private in PRIVATE_NAMES:
        state = "missing" if private.find() is None else "found"
        yield {"name": str(private), "state": state, "lost": private.lost}


def in_json(report: dict[str, Any]) -> str:
    import msgspec

    return msgspec.json.format(msgspec.json.encode(report), indent=2).decode()


def in_text(report: dict[str, Any]) -> str:
    return "\n".join(_lines(report))


def _lines(report: dict[str, Any]) -> Iterator[str]:
    versions = report["versions"]
    width = max(map(len, versions))
    for package, version in versions.items():
        yield f"{package:{width}}  {version}"
    table = None
    for site in report["sites"]:
        if site["table"] != table:
            table = site["table"]
            yield f"\n{table}"
        yield f"  {site['name']}: {site['state']}"
    yield "\nPrivate names that are read"
    for private in report["private_names"]:
        yield f"  {private['name']}: {private['state']}"
    if not report["missing"]:
        yield "\nNothing is missing."
        return
    yield f"\nMissing here (dspy {versions.get('dspy', 'not installed')}), and lost without it"
    for name, lost in report["missing"].items():
        yield f"  {name}: {lost}"
