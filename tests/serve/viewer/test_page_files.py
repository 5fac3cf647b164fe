"""What the page is made of, as a browser asks for it."""

from __future__ import annotations

from pathlib import PurePosixPath
from urllib.parse import urlsplit

import dspy
import pytest

from streamll.serve.page import STATIC

PROGRAM = dspy.Predict("question -> answer")


def test_it_is_three_files_though_its_scripts_are_many(site, open_page):
    server, page, asked = site(PROGRAM), open_page(None), []
    page.on("request", lambda request: asked.append(urlsplit(request.url).path))
    page.goto(server.url)
    page.wait_for_function("() => document.title === 'streamll' && window.streamll.page")
    files = [path for path in asked if path == "/" or PurePosixPath(path).suffix]
    assert files == ["/", "/viewer.css", "/scripts.js"]
    assert len(list(STATIC.glob("*.js"))) > 30


@pytest.mark.parametrize("path", ["/", "/index.html", "/scripts.js", "/viewer.css"])
def test_it_is_sent_again_only_when_it_is_another(path, site):
    with site(PROGRAM).client() as client:
        first = client.get(path)
        assert (first.status_code, first.headers["cache-control"]) == (200, "no-cache")
        again = client.get(path, headers={"if-none-match": first.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["content-security-policy"].startswith("default-src 'none'")
        assert client.get(path, headers={"if-none-match": '"another"'}).text == first.text
        head = client.head(path)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-length"] == first.headers["content-length"]
        assert client.post(path).status_code == 405


def test_each_script_is_also_a_file(site):
    with site(PROGRAM).client() as client:
        for script in STATIC.glob("*.js"):
            assert client.get(f"/{script.name}").text == script.read_text("utf-8")
        assert client.get("/none.js").status_code == 404
