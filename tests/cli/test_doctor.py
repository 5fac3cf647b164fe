"""``streamll doctor``: versions, what is patched, what this DSPy lacks; on any DSPy, and on none."""

from __future__ import annotations

import json
import sys

import dspy
import pytest
import warm

from streamll.cli.main import main

pytestmark = pytest.mark.since_3_4  # they name its places, and break them


def doctor(breakage: str) -> tuple[int, dict]:
    """``streamll doctor --json`` in a process whose DSPy has been changed first."""
    code = f"import sys\n{breakage}\nfrom streamll.cli.main import main\n"
    done = warm.run(
        [sys.executable, "-c", f"{code}sys.exit(main(['doctor', '--json']))"],
        modules=warm.WITH_DSPY,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    return done.returncode, json.loads(done.stdout)


def test_nothing_is_missing_in_the_dspy_we_test_with(capsys):
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    assert f"dspy               {dspy.__version__}\n" in out
    assert "  dspy.clients.execution._select_engine: on\n" in out
    assert out.endswith("Nothing is missing.\n")


def test_json_has_versions_sites_and_private_names(capsys):
    assert main(["doctor", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["versions"]["dspy"] == dspy.__version__
    assert report["missing"] == {}
    states = {site["name"]: site["state"] for site in report["sites"]}
    assert states["httpx.Client.send"] == "on"
    assert {name["state"] for name in report["private_names"]} == {"found"}


def test_it_leaves_nothing_patched(capsys):
    from dspy.clients import execution

    before = (dspy.Module.__call__, execution._select_engine)
    main(["doctor"])
    assert (dspy.Module.__call__, execution._select_engine) == before


NO_CONTEXT = (
    "`set_context` and `trace` do not reach the threads of `dspy.Parallel` and `Evaluate`; "
    "no `evaluate.example` events"
)


@pytest.mark.parametrize(
    ("breakage", "name", "lost"),
    [
        (
            "import dspy.clients.execution as x; del x._retryable",
            "dspy.clients.execution._retryable",
            "DSPy's retries come on top of a `StreamConfig`'s",
        ),
        (
            "import dspy.clients.execution as x; del x._select_engine",
            "streaming",
            "text arrives whole: it selects no engines",
        ),
        (
            "import dspy; sys.modules['dspy.clients.engines.litellm_engine'] = None",
            "dspy.clients.engines.litellm_engine",
            "text arrives whole, when a call ends",
        ),
        (
            "import dspy.utils.parallelizer as p; del p.ParallelExecutor.execute",
            "dspy.utils.parallelizer.ParallelExecutor.execute",
            NO_CONTEXT,
        ),
        (
            "import dspy.utils.callback_context as c; del c._ACTIVE_COMPILES",
            "dspy.utils.callback_context._ACTIVE_COMPILES",
            "text is streamed inside optimizers, too",
        ),
    ],
    ids=["retryable", "select_engine", "litellm_engine", "parallel", "compiles"],
)
def test_what_a_dspy_lacks_is_named_with_what_is_lost(breakage, name, lost):
    code, report = doctor(breakage)
    assert code == 1
    assert report["missing"][name] == lost


def test_without_dspy_it_says_so():
    code, report = doctor("sys.modules['dspy'] = None")
    assert code == 1
    assert report["missing"]["dspy"].startswith("capture does not load (ModuleNotFoundError")
    assert "python" in report["versions"]


def test_a_package_that_is_not_installed_is_not_missing():
    # DSPy first: DSPy 3.4.0 without numpy imports openai as it loads, and openai 3 needs httpx2.
    hidden = "import dspy\nfor name in ('httpx2', 'httpcore2'): sys.modules[name] = None"
    code, report = doctor(hidden)
    states = {site["name"]: site["state"] for site in report["sites"]}
    assert states["httpx2.Client.send"] == "not installed"
    assert code == 0
