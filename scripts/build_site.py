"""Build the documentation site, strictly: a broken link or anchor, or a page nobody finds, fails.

    python scripts/build_site.py            # into .cache/site/site

The pages are the repository's own Markdown files, whose links also work on a code host. Here they are put
where the site has them, their links rewritten, and the examples made into a page. Zensical builds the
rest; what it wrote is then read again: every link and anchor leads somewhere, nothing is loaded from
another host. Needs no network.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).parent.parent
BUILD = Path(os.environ.get("SITE_BUILD", ROOT / ".cache" / "site"))
CODE_BLOCK = re.compile(r"^(```+).*?^\1$", re.MULTILINE | re.DOTALL)
COMMENT = re.compile(r"^<!--.*?-->\n", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"""(?<=\]\()([^)\s]+)(?=\))|(?<= src=")([^"]+)(?=")|(?<= href=")([^"]+)(?=")""")
DEFINITION = re.compile(r"^\[(\w+)\]: (\S+)\n", re.MULTILINE)
EXAMPLES = "examples.md"
ABOUT_EXAMPLES = """\
# Examples

Complete programs, in the folder `examples/` of a checkout. They run offline: a practice model answers,
unless `STREAMLL_MODEL` names a real one.
"""


def place_of(path: str) -> str | None:
    """Where the site has a file of the repository; ``None`` for files it does not have."""
    elsewhere = {
        "README.md": "index.md",
        "docs/README.md": "index.md",
        "CONTRIBUTING.md": "contributing.md",
        "CHANGELOG.md": "changelog.md",
        "bench/README.md": "benchmarks.md",
    }
    if path in elsewhere:
        return elsewhere[path]
    if path.startswith("docs/"):
        return path.removeprefix("docs/").replace("/README.md", "/index.md")
    return None


# --- the pages ------------------------------------------------------------------------------------


def sources() -> Iterator[str]:
    """The files that become pages or pictures, as paths in the repository."""
    yield from ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "bench/README.md")
    for path in sorted((ROOT / "docs").rglob("*")):
        if path.is_file() and path != ROOT / "docs" / "README.md":
            yield path.relative_to(ROOT).as_posix()


def page(source: str) -> str:
    """A Markdown file as the site has it: its links rewritten, the tests' comments left out."""
    text = (ROOT / source).read_text("utf-8")
    blocks: list[str] = []

    def put_aside(block: re.Match[str]) -> str:
        blocks.append(block[0])
        return f"\0{len(blocks) - 1}\0"

    text = CODE_BLOCK.sub(put_aside, COMMENT.sub("", text))
    for name, target in DEFINITION.findall(text):
        text = text.replace(f"][{name}]", f"]({target})")
    text = DEFINITION.sub("", text)
    text = LINK.sub(lambda link: moved(link[0], source), text)
    text = re.sub(r"\[([^\]]+)\]\(\0\)", r"\1", text)  # a file that the site does not have
    return re.sub(r"\0(\d+)\0", lambda number: blocks[int(number[1])], text)


def moved(link: str, source: str) -> str:
    """A link of ``source``, from its place on the site; a null character if its target is not there."""
    if "://" in link or link.startswith(("#", "mailto:")):
        return link
    path, _, anchor = link.partition("#")
    target = os.path.normpath(PurePosixPath(source).parent / path)
    if not (ROOT / target).exists():
        raise SystemExit(f"{source} links to {link}, which does not exist")
    if target.startswith("examples/"):
        place, anchor = EXAMPLES, anchor_of(PurePosixPath(target).name)
    else:
        place = place_of(target)
    if place is None:
        return "\0"
    here = PurePosixPath(place_of(source) or "").parent
    return os.path.relpath(place, here) + (f"#{anchor}" if anchor else "")


def anchor_of(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-")


def examples() -> str:
    """All examples on one page, each under its file's name."""
    parts = [ABOUT_EXAMPLES]
    for path in sorted((ROOT / "examples").iterdir()):
        if path.suffix in {".py", ".html"}:
            language = path.suffix[1:].replace("py", "python")
            code = path.read_text("utf-8").strip()
            parts.append(f"## {path.name}\n\n```{language}\n{code}\n```\n")
    return "\n".join(parts)


def put_together() -> None:
    """The site's sources in ``BUILD``."""
    shutil.rmtree(BUILD, ignore_errors=True)
    for source in sources():
        target = BUILD / "docs" / str(place_of(source))
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.endswith(".md"):
            target.write_text(page(source), "utf-8")
        else:
            shutil.copy(ROOT / source, target)
    (BUILD / "docs" / EXAMPLES).write_text(examples(), "utf-8")
    shutil.copy(ROOT / "zensical.toml", BUILD)


# --- what was built -------------------------------------------------------------------------------


class Page(HTMLParser):
    """The anchors, links and loaded files of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.anchors = {""}
        self.links: list[str] = []
        self.loads: list[str] = []
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.anchors.update(found[name] or "" for name in ("id", "name") if name in found)
        if tag == "a" and found.get("href"):
            self.links.append(str(found["href"]))
        elif tag == "link" and found.get("rel") not in ("canonical", "next", "prev"):
            self.loads.append(found.get("href") or "")
        elif found.get("src"):
            self.loads.append(str(found["src"]))


def problems(site: Path) -> Iterator[str]:
    """What is wrong with the site that was built in a folder."""
    pages = {path: Page(path) for path in site.rglob("*.html")}
    for path, built in pages.items():
        name = path.relative_to(site)
        for load in built.loads:
            if urlsplit(load).netloc:
                yield f"{name} loads {load} from another host"
        if path.name == "404.html":  # its links are those of a site at the root of a host
            continue
        for link in {*built.links, *built.loads}:
            split = urlsplit(link)
            if split.scheme or split.netloc:
                continue
            target = (path.parent / unquote(split.path)).resolve() if split.path else path
            target = target / "index.html" if target.is_dir() else target
            if not target.exists():
                yield f"{name} links to {link}, which does not exist"
            elif target in pages and unquote(split.fragment) not in pages[target].anchors:
                yield f"{name} links to {link}, which has no such anchor"


def unlisted() -> Iterator[str]:
    """Pages that no entry of the navigation leads to, and entries without a page."""
    listed = set(re.findall(r'= "([\w/-]+\.md)"', (ROOT / "zensical.toml").read_text("utf-8")))
    there = {path.relative_to(BUILD / "docs").as_posix() for path in (BUILD / "docs").rglob("*.md")}
    notes = {name for name in there if name.startswith("decisions/") and name[10].isdigit()}
    for name in sorted(listed ^ (there - notes)):
        yield f"{name} is not both a page and in the navigation"


def main() -> None:
    put_together()
    command = [sys.executable, "-m", "zensical", "build", "--clean", "--strict"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}  # whose docstrings are read
    built = subprocess.run(
        command, cwd=BUILD, env=environment, capture_output=True, text=True, check=False
    )
    if built.returncode or "griffe: " in built.stderr + built.stdout:  # warnings of docstrings
        raise SystemExit(f"{built.stdout}{built.stderr}the site is not as it should be")
    found = [*unlisted(), *problems((BUILD / "site").resolve())]
    if found:
        raise SystemExit("\n".join(found))
    print(f"Built {BUILD / 'site' / 'index.html'}")


if __name__ == "__main__":
    main()
