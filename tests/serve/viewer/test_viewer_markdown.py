"""X20: texts as their Markdown means them: safely, at every moment of a stream, however long."""

from __future__ import annotations

import json

import dspy
import pytest
from viewer.conftest import wait_read

from serve.runs import Scribe
from streamll.serve.report import report_html

REPORT = """## Found

See [the page](https://example.org/a?b=1&c=2) and `x &lt; y`, **bold** *and* ~~gone~~.
A second line, with \\(x^2\\) and &amp; and a mail@example.org.

1. Bind it:
   ```python
   def f(x):
       return "one" + x  # all
   ```
2. Done
   - inner
   - [x] ticked

| File | Line |
|:-----|-----:|
| a.py | 41 |
| b.py | 5<br>6 |

> quoted
> on

```js
const a = `</script>`;
```

7. seven
8. eight

---

    indented

Setext
======
the end
"""

HOSTILE = [
    "[a](javascript:window.owned=1) **x**",
    "[a](&#106;avascript:window.owned=1) [b](java\tscript:window.owned=1) [c](JaVaScRiPt:alert(1))",
    "[a](data:text/html;base64,PHNjcmlwdD4=) [b](vbscript:x) [c](file:///etc/passwd) [d](blob:x)",
    "<javascript:window.owned=1> <https://ok.example> https://bare.example **x**",
    "[a](//evil.example) [b](/runs) [c](#run=x&token=y) [d](..\\x) `x`",
    "![x](http://evil.example/x.png) ![y](javascript:window.owned=1) ![z](data:image/svg+xml,<svg/onload=x>)",
    "<img src=x onerror=window.owned=1> **b** <svg onload=window.owned=1><script>window.owned=1</script>",
    "- <iframe srcdoc='<script>parent.owned=1</script>'>\n- <style>*{display:none}</style>\n- <a href=javascript:x>y</a>",
    "| <b>a</b> | [x](javascript:window.owned=1) |\n|---|---|\n| <img src=x onerror=window.owned=1> | `</td>` |",
    "```<img src=x onerror=window.owned=1>\n</code></pre><script>window.owned=1</script>\n```",
    "```html\n<script>window.owned=1</script>\n<!-- <img src=x onerror=1> -->\n```\n\n~~~ a`b\nopen",
    "```__proto__\nx\n```\n```constructor\ny\n```",
    "[ref]: javascript:window.owned=1\n\n[ref] **x** [a][ref]\n\n[__proto__]: http://x.example",
    '[a](http://x.example "title\\" onmouseover=window.owned=1") [b](http://x"onclick="y.example)',
    "[a](http://user:pw@x.example) [b](mailto:a@b.example?subject=<b>) **x**",
    "**x** [" * 60 + "](" * 60,
    "- " * 3000 + "**x**",
    "> " * 3000 + "**x**",
    "**a* " * 700,
    "`x`\n" + "|" * 500 + "\n" + "|-" * 500,
    "```\nhalf an open fence",
    "**x**\n\n```py",
    "~~~\na\n```\nb\n~~~\n**x**",
]

SAFE = """(box) => {
  const tags = new Set("p span strong em del code br a h4 h5 h6 div pre button ul ol li table thead tbody tr th td blockquote hr".split(" "));
  const names = new Set("class href title target rel type aria-label scope start data-name style".split(" "));
  const wrong = [];
  for (const one of box.querySelectorAll("*")) {
    if (!tags.has(one.localName)) wrong.push(one.localName);
    for (const { name, value } of one.attributes) {
      if (!names.has(name) || (name === "style" && !/^(text-align: (left|right|center);)?$/.test(value))) wrong.push(`${name}=${value}`);
    }
    if (one.localName === "a" && !(/^(https?|mailto):/.test(one.href) && one.rel.includes("noopener") && one.target === "_blank")) wrong.push(one.href);
  }
  return wrong;
}"""

GROWN = """([text, size]) => {
  const safe = SAFE, wrong = new Set();
  const grow = (size) => {
    const box = document.body.appendChild(document.createElement("div"));
    const prose = new streamll.Prose(box), field = { version: 0, text: "", done: false };
    for (let at = size; field.text.length < text.length; at += size) {
      if (prose.view) prose.view.free = 0;  // each piece is read, however quickly they come
      field.text = text.slice(0, at);
      prose.show(field);
      if (box.textContent.length) safe(box).forEach((each) => wrong.add(each));
    }
    field.done = true;
    prose.show(field);
    safe(box).forEach((each) => wrong.add(each));
    box.remove();
    return box.innerHTML;
  };
  const whole = grow(text.length);
  return { whole, same: grow(size) === whole, wrong: [...wrong] };
}""".replace("SAFE", SAFE)


@pytest.fixture
def report(tmp_path, open_page):
    """``report(text, …)``: a report of a run whose field ``answer`` has come in these pieces."""

    def open_(*tokens, **options):
        path = tmp_path / "report.html"
        path.write_text(report_html(Scribe(0.01).start().text("answer", *tokens).end().events))
        page = open_page(path.as_uri(), **options)
        page.wait_for_selector("#status[data-status=ended]")
        return page

    return open_


ANSWER = '.field[data-field="answer"]'


def test_a_text_is_what_its_markdown_means(report):
    page = report(*REPORT.splitlines(keepends=True))
    box = page.locator(f"{ANSWER} .md")
    assert box.locator("h4, h5").all_text_contents() == ["Setext", "Found"][::-1]
    link = box.locator("a").first
    assert link.get_attribute("href") == "https://example.org/a?b=1&c=2"
    assert link.get_attribute("rel") == "noopener noreferrer nofollow"
    assert box.locator("a").nth(1).get_attribute("href") == "mailto:mail@example.org"
    assert "\\(x^2\\) and & and" in box.locator("p").first.text_content()
    assert box.locator("p code").first.text_content() == "x &lt; y"
    rows = box.locator("tr").all_text_contents()
    assert rows == ["FileLine", "a.py41", "b.py56"]
    assert box.locator("td br").count() == 1
    assert box.locator("ol").nth(1).get_attribute("start") == "7"
    assert box.locator("li.task").text_content() == "☑ ticked"
    assert box.locator("blockquote").text_content() == "quotedon"
    assert box.locator(".hl-keyword").all_text_contents() == ["def", "return", "const"]
    codes = box.locator("pre code").all_text_contents()
    assert codes == ['def f(x):\n    return "one" + x  # all', "const a = `</script>`;", "indented"]


def test_it_can_be_seen_as_it_was_written_and_copied(site, practice, open_page):
    """Which is for all texts, and remembered; typed values are not touched by it."""
    practice.respond(lambda _: {"answer": REPORT, "tags": ["**a**", "b"]})
    server = site(dspy.Predict("question -> answer, tags: list[str]"))
    page = open_page(server.url)
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.fill("textarea[name=question]", "?")
    page.keyboard.press("Control+Enter")
    page.wait_for_selector("#status[data-status=ended]")
    page.wait_for_selector(f"{ANSWER} .md table")
    tags = page.inner_html(".field[data-field=tags] .text")
    assert "**a**" in tags

    def copied(selector):
        page.evaluate(  # it says so for a second and a half, which may be over when the test looks
            """(selector) => { window.labels = []; const button = document.querySelector(selector);
            new MutationObserver(() => labels.push(button.textContent))
                .observe(button, { childList: true }); }""",
            selector,
        )
        page.focus(selector)
        page.keyboard.press("Enter")
        page.wait_for_function("() => labels.includes('Copied')")
        return page.evaluate("navigator.clipboard.readText()")

    assert copied(f"{ANSWER} .codeblock .copy").startswith("def f(x):\n")
    assert copied(f"{ANSWER} > .tools .copy") == REPORT.strip()
    assert json.loads(copied(".field[data-field=tags] > .tools .copy")) == ["**a**", "b"]
    page.keyboard.press("Escape")
    page.click("#runs button")
    wait_read(page)
    page.wait_for_selector(f"{ANSWER} .md table")
    page.keyboard.press("m")
    page.wait_for_selector(f"{ANSWER} .text:not(.md)")
    assert page.text_content(f"{ANSWER} .text") == REPORT.strip()
    assert page.inner_html(".field[data-field=tags] .text") == tags
    page.reload()
    wait_read(page)
    page.wait_for_selector(f"{ANSWER} .source[aria-pressed=true]")
    assert page.text_content(f"{ANSWER} .text") == REPORT.strip()
    assert page.evaluate("streamll.vendor === undefined"), "loaded only where it is needed"
    page.click(f"{ANSWER} .source")
    page.wait_for_selector(f"{ANSWER} .md table")


def test_what_is_hostile_is_harmless_at_every_moment_and_the_same_in_any_cut(report):
    page = report("**x**")
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    for text in [*HOSTILE, REPORT, REPORT.replace("\n", "\r\n")]:
        for size in (1, 7) if len(text) < 2000 else (977,):
            result = page.evaluate(GROWN, [text, size])
            assert result["wrong"] == [], text
            assert result["same"], (text, size, result["whole"])
    assert page.evaluate("window.owned === undefined && ({}).polluted === undefined")
    assert asked == []
    assert page.evaluate(GROWN, [HOSTILE[0], 1])["whole"].count("[a](javascript:") == 1


def test_a_text_without_markdown_stays_as_it_is_and_its_report_small(report, tmp_path):
    for text in ("5 * 3 * 2 is __30__\n\nas 2 > 1 # all", "# a comment\nprint(1)", "a | b", "x"):
        page = report(text)
        assert page.locator(".md").count() == 0
        assert page.text_content(f"{ANSWER} .text") == text
        assert "highlight.js" not in (tmp_path / "report.html").read_text()


LINES = {
    "list": "- **item** w\n",
    "table": "| w | `w` |\n",
    "fence": "w = w + w\n",
    "paragraph": "w **w** w w\n",
    "paragraphs": "w w **w**\n\n",
    "one line": "w **w** ",
}

SMOOTH = """async ([head, line, lines]) => {
  let read = 0, most = 0, made = 0;
  const lex = streamll.vendor.lex, create = document.createElement;
  streamll.vendor.lex = (text) => { read += text.length; most = Math.max(most, text.length); return lex(text); };
  document.createElement = function (name) { made++; return create.call(document, name); };
  const box = document.body.appendChild(document.createElement("div"));
  const prose = new streamll.Prose(box), field = { version: 0, text: head, done: false };
  const step = 40;  // lines between two drawings
  for (let n = 0; n < lines; n += step) {
    if (prose.view) prose.view.free = 0;
    field.text += line.repeat(step);
    prose.show(field);
  }
  field.done = true;
  prose.show(field);
  streamll.vendor.lex = lex;
  document.createElement = create;
  const found = { read, most, made, size: field.text.length, text: box.textContent.replace(/\\s/g, ""), there: box.querySelectorAll("*").length };
  box.remove();
  return found;
}"""


def test_of_a_long_text_only_the_last_block_is_read_again(report):
    """Counted in characters that the lexer gets and elements that are made, not by a clock."""
    lines = 4000  # a hundred times as much as comes at once
    page = report("**x**")
    for kind, line in LINES.items():
        head = {"table": "| a | b |\n|---|---|\n", "fence": "```python\n", "one line": "`w` "}.get(kind, "**w**\n\n")  # fmt: skip
        found = page.evaluate(SMOOTH, [head, line, lines])
        assert found["most"] < 25_000, kind
        assert found["read"] < 30 * found["size"], kind
        assert found["made"] < 30 * found["there"] + 1000, kind
        assert found["text"].count("w") == line.count("w") * lines + head.count("w"), kind


def test_on_a_phone_and_in_the_dark(report):
    wide = "`x`\n\n```python\n" + "a = 1; " * 60 + "\n```\n\n|" + "column |" * 12 + "\n" + "|-" * 12 + "|\n|" + "value |" * 12  # fmt: skip
    page = report(f"{REPORT}\n{wide}", viewport={"width": 390, "height": 844}, color_scheme="dark")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.evaluate(f"document.querySelector('{ANSWER} pre').scrollWidth > 0")
    assert page.get_attribute(f"{ANSWER} td", "data-name") == "File"
