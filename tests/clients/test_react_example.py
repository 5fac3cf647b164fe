"""Both packages as npm packs them, in a project of their own: ``examples/react``, built with Vite.

They are installed, checked under ``strict``, read a run in Node, and show one in Chromium and in Firefox: typed fields that grow,
a connection that is lost, stop, and a reload.
"""

from __future__ import annotations

import fcntl
import json
import re
import shutil
import subprocess
import sys

import build_clients
import dspy
import pytest
import warm
from chromium import launched

import streamll
from serve.npm import packages
from serve.serving import Server
from serve.viewer.line import Line
from streamll.testing import Reply

EXAMPLE = build_clients.ROOT / "examples" / "react"
NPM_CACHE = build_clients.ROOT / ".cache" / "npm-cache"
DOCUMENTED = re.findall(
    r"```tsx\n(.*?)```", (build_clients.ROOT / "docs" / "react.md").read_text("utf-8"), re.DOTALL
)
TITLES = "Unused import", "SQL from a user's text"
REPLY = {
    "findings": [
        {"title": TITLES[0], "severity": "low", "line": 1},
        {"title": TITLES[1], "severity": "high", "line": 4},
    ],
    "summary": "Fix the second.",
}
HALF = '{"title": "SQL'
TEXT = f"[[ ## findings ## ]]\n{json.dumps(REPLY['findings'])}\n\n[[ ## summary ## ]]\nFix the second.\n\n[[ ## completed ## ]]"
HELD = Reply(chunks=[TEXT[: (cut := TEXT.index(HALF) + len(HALF))], TEXT[cut:]], hold_after=1)


def run(*command, cwd):
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def project(tmp_path_factory, run_folder):
    """The example with the packages as they are packed now, installed and built."""
    place = tmp_path_factory.mktemp("react")
    app = place / "examples" / "react"
    shutil.copytree(EXAMPLE, app, ignore=shutil.ignore_patterns("node_modules", "dist"))
    for number, code in enumerate(DOCUMENTED):  # checked, and not shown
        (app / "src" / f"documented{number}.tsx").write_text(code, "utf-8")
    with (run_folder / "build_clients.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # other workers build them in the same folder
        for package in build_clients.packages():
            build_clients.build(package)
            build_clients.pack(package, place / "dist")
    # npm takes seconds to unpack what the registry has, which is the same each time.
    manifest = json.loads((EXAMPLE / "package.json").read_text("utf-8"))
    needed = {**manifest["dependencies"], **manifest["devDependencies"]}
    others = {name: version for name, version in needed.items() if "file:" not in version}
    modules = packages(others, "npm-react-example") / "node_modules"
    shutil.copytree(modules, app / "node_modules", symlinks=True)
    options = ["--prefer-offline", f"--cache={NPM_CACHE}", "--no-audit", "--no-fund"]
    run("npm", "install", *options, cwd=app)
    run("npm", "run", "build", cwd=app)
    return app


@pytest.fixture
def site(project, practice, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(project)
    from review import make_app

    dspy.configure(lm=practice.lm(), adapter=dspy.ChatAdapter())
    server = Server(make_app(f"sqlite:///{tmp_path}/log.db", project / "dist"))
    yield server
    practice.release()
    server.stop()
    sys.modules.pop("review")


@pytest.fixture
def line(site):
    line = Line(site.port)
    yield line
    line.close()


def test_the_types_are_those_of_the_program(project):
    command = [sys.executable, "-m", "streamll", "types", "review.py:review"]
    done = warm.run(command, cwd=project, capture_output=True, encoding="utf-8", check=False)
    assert done.stdout == (EXAMPLE / "src" / "review.d.ts").read_text("utf-8"), done.stderr


READ = """
import { startRun } from "@streamll/client";
import { useRun } from "@streamll/react";

const run = startRun(process.argv[1], { program: "review", inputs: { code: "" } }), kinds = [];
for await (const event of run) kinds.push(event.event_type);
const { findings, summary } = (await run.result()).values;
console.log(JSON.stringify({ values: { findings, summary }, kinds: [kinds[0], kinds.at(-1)], hook: typeof useRun }));
"""


def test_the_packages_read_a_run_in_node(practice, project, site):
    streamll.configure(include=["outputs"], include_limit=5)  # which are for people: clipped
    practice.script(REPLY)
    said = run("node", "--input-type=module", "-e", READ, f"{site.url}/llm/", cwd=project)
    assert json.loads(said) == {
        "values": REPLY,
        "kinds": ["run.start", "run.end"],
        "hook": "function",
    }


def test_the_page_shows_findings_as_they_grow_through_a_lost_connection_and_a_reload(
    practice, line
):
    practice.script(HELD, HELD, REPLY)
    with launched() as browser, browser.page() as page:
        errors = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(line.url)
        ask, stop = (page.get_by_role("button", name=name) for name in ("Review", "Stop"))
        items, count = page.locator("li"), page.locator("#count")

        # A half-written finding is there, and what is not known of it is not.
        ask.click()
        page.get_by_text("2 found so far").wait_for()
        page.get_by_text("SQL", exact=True).wait_for()  # its title may come a moment later
        assert items.all_text_contents() == [f"{TITLES[0]} in line 1", "SQL"]

        # The connection breaks, the model goes on, and the page comes back.
        line.cut()
        page.get_by_text("Trying again").wait_for()
        practice.release()
        line.join()
        page.get_by_text("Done", exact=True).wait_for()
        assert items.all_text_contents() == [f"{TITLES[0]} in line 1", f"{TITLES[1]} in line 4"]
        assert page.locator("li.high").text_content().startswith(TITLES[1])
        assert count.text_content() == "2 found"
        assert page.locator("[data-field=summary] dd").text_content() == REPLY["summary"]

        # A reload comes back to a run; stopped is stopped.
        ask.click()
        page.get_by_text("Writing…").wait_for()
        page.get_by_text("2 found so far").wait_for()
        page.reload()
        page.get_by_text("2 found so far").wait_for()
        stop.click()
        page.get_by_text("Stopped").wait_for()
        practice.requests[1].wait_closed()
        assert stop.is_disabled()
        ask.click()
        page.get_by_text("Done", exact=True).wait_for()
        assert count.text_content() == "2 found"
    assert errors == []


def test_firefox_shows_findings_as_they_grow_and_stops(practice, line, firefox):
    practice.script(HELD, HELD)
    page = firefox(line.url)
    ask, stop = "form button", "form button[type=button]"
    page.click(ask)
    page.wait_text("#count", "2 found so far")
    page.wait_text("li", "SQL")  # its title may come a moment later
    assert page.texts("li") == [f"{TITLES[0]} in line 1", "SQL"]
    line.cut()
    page.wait_text(".streamll-status", "Trying again")
    line.join()
    practice.requests[0].wait_held()
    practice.release()
    page.wait_text(".streamll-status", "Done")
    assert page.texts("li") == [f"{TITLES[0]} in line 1", f"{TITLES[1]} in line 4"]
    assert page.texts("[data-field=summary] dd") == [REPLY["summary"]]
    page.click(ask)
    page.wait_text("#count", "2 found so far")
    page.reload()
    page.wait_text("#count", "2 found so far")
    page.click(stop)
    page.wait_text(".streamll-status", "Stopped")
    practice.requests[1].wait_closed(timeout=60)
