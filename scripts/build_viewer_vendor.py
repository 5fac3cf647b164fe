"""Write the viewer's one file of other people's code: a Markdown lexer and a highlighter of code.

    python scripts/build_viewer_vendor.py

npm packages of the versions in ``PACKAGES`` are installed into ``.cache`` and bundled by esbuild. The
result is committed, so neither users nor the package's build need Node; a test compares the two
(``tests/serve/viewer/test_viewer_vendor.py``). The viewer makes elements out of the lexer's and the
highlighter's tokens itself (``static/markdown.js``): nothing here writes HTML into the page.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent.parent / "tests"))
from serve.npm import packages

ROOT = Path(__file__).parent.parent
TARGET = ROOT / "src/streamll/serve/viewer/static/vendor/markdown.js"
PACKAGES = {"marked": "18.2.1", "highlight.js": "11.12.0", "esbuild": "0.28.2"}
LANGUAGES = (
    "bash", "cpp", "css", "diff", "go", "java", "javascript", "json", "python", "rust", "sql",
    "typescript", "xml", "yaml",
)  # fmt: skip
ENTRY = """
import { Lexer } from "marked";
import highlighter from "highlight.js/lib/core";
%s
/** The tokens of a Markdown text. A line's end is one in what is shown, as in a chat. */
const lex = (text) => new Lexer({ gfm: true, breaks: true }).lex(text);
/** The code as a tree: `{ children: [text or { scope, children }] }`; null for a language not known here. */
const highlight = (code, language) =>
  highlighter.getLanguage(language) ? highlighter.highlight(code, { language, ignoreIllegals: true })._emitter.rootNode : null;
window.streamll = Object.assign(window.streamll || {}, { vendor: { lex, highlight } });
"""


def entry() -> str:
    lines = []
    for number, name in enumerate(LANGUAGES):
        lines.append(f'import language{number} from "highlight.js/lib/languages/{name}";')
        lines.append(f'highlighter.registerLanguage("{name}", language{number});')
    return ENTRY % "\n".join(lines)


def built() -> str:
    """The file's text."""
    place = packages(PACKAGES, "npm-viewer")
    command = [
        "node_modules/.bin/esbuild", "--bundle", "--minify", "--format=iife", "--target=es2022",
        "--charset=utf8", "--legal-comments=none", "--log-level=warning",
    ]  # fmt: skip
    code = subprocess.run(
        command, cwd=place, input=entry(), capture_output=True, check=True, encoding="utf-8"
    ).stdout
    # A report has it inside a script element, whose end and comments HTML's parser looks for.
    for tag in ("!--", "script", "/script"):
        code = code.replace(f"<{tag}", f"\\x3C{tag}")
    licences = [
        f"{name} {PACKAGES[name]}\n\n{_licence(place / 'node_modules' / name)}"
        for name in ("marked", "highlight.js")
    ]
    head = "\n\n----\n\n".join(licences).replace("*/", "* /")
    return f"/*!\nMade by scripts/build_viewer_vendor.py of:\n\n{head}\n*/\n{code}"


def _licence(folder: Path) -> str:
    [path] = [each for each in folder.iterdir() if each.name.lower().startswith("license")]
    return "\n".join(line.rstrip() for line in path.read_text("utf-8").strip().splitlines())


if __name__ == "__main__":
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_text(built(), "utf-8")
