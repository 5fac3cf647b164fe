"""What a checkout promises to the people who install it, build it or run its commands."""

from __future__ import annotations

import importlib
import os
import re
import shutil
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
import versions

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def run(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=ROOT,
        env=environment or None,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_installed_streamll_is_this_checkout():
    assert Path(importlib.import_module("streamll").__file__).is_relative_to(ROOT)
    assert metadata.version("streamll") == PROJECT["version"]


def test_the_console_command_exists():
    module, _, function = PROJECT["scripts"]["streamll"].partition(":")
    assert callable(getattr(importlib.import_module(module), function))


def test_typer_is_one_that_reads_missing_arguments_with_the_newest_click():
    """Up to 0.17 they arrive as ``None``, and the command fails in its middle."""
    (lowest,) = (
        re.search(r">=0\.(\d+)", each) for each in PROJECT["dependencies"] if "typer" in each
    )
    assert int(lowest[1]) >= 18
    for command in ("run", "tail", "copy", "replay"):
        done = run(sys.executable, "-m", "streamll", command)
        assert (done.returncode, "Missing argument" in done.stderr) == (2, True)


def test_the_extra_all_is_every_other_extra():
    extras = PROJECT["optional-dependencies"]
    (everything,) = extras["all"]
    assert set(re.findall(r"\w+", everything)) == {"streamll", *extras.keys() - {"all"}}


def test_the_changelog_has_this_version():
    version = PROJECT["version"].removesuffix(".dev0")
    assert f"## [{version}]" in (ROOT / "CHANGELOG.md").read_text("utf-8")


def test_the_licence_is_the_whole_apache_licence():
    text = (ROOT / "LICENSE").read_text("utf-8")
    assert "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text
    assert PROJECT["license"] == "Apache-2.0"


def test_the_wheel_contains_only_the_package(tmp_path):
    sources = shutil.copytree(
        ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__")
    )
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=tmp_path, check=True, capture_output=True)

    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    modules = {str(m.relative_to(sources)) for m in sources.rglob("*") if m.is_file()}
    assert modules == {name for name in names if name.startswith("streamll/")}
    assert "streamll/py.typed" in modules
    assert {name.split("/")[0].split("-")[0] for name in names} == {"streamll"}


# --- setting up from nothing --------------------------------------------------------------------


def interpreter(folder: Path, name: str, answer: str) -> None:
    """A stand-in for an interpreter that this machine does not have."""
    script = folder / name
    script.write_text(f"#!/bin/sh\n{answer}\n")
    script.chmod(0o755)


@pytest.fixture
def tools(tmp_path):
    """A PATH with a shell's tools and no interpreter at all."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for tool in ("rm", "sh"):
        (folder / tool).symlink_to(shutil.which(tool))
    return folder


def set_up(tools: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    venv = str(tools.parent / "venv")
    return run("/bin/sh", "scripts/setup.sh", venv, PATH=str(tools), **environment)


def test_set_up_says_which_python_it_needs(tools):
    interpreter(tools, "python3", "exit 1")  # an interpreter older than 3.10
    answer = set_up(tools)
    assert answer.returncode == 1
    assert "needs Python 3.10 or newer" in answer.stderr
    assert "make PYTHON=" in answer.stderr


def test_set_up_names_the_debian_package_when_venv_is_missing(tools):
    interpreter(tools, "python3", 'case "$2" in *ensurepip*) exit 1 ;; *print*) echo 3.11 ;; esac')
    answer = set_up(tools)
    assert answer.returncode == 1
    assert "apt install python3-venv    (or python3.11-venv)" in answer.stderr


def test_set_up_uses_the_interpreter_given_as_python(tools):
    interpreter(tools, "python3", "exit 0")
    answer = set_up(tools, PYTHON="no-such-python")
    assert answer.returncode == 1
    assert "which no-such-python is not" in answer.stderr


def test_set_up_skips_interpreters_that_are_too_old(tools):
    interpreter(tools, "python3", "exit 1")
    interpreter(tools, "python3.12", 'case "$2" in *print*) echo 3.12 ;; *venv) exit 7 ;; esac')
    answer = set_up(tools)
    assert "with python3.12 (3.12)" in answer.stdout
    assert answer.returncode == 7  # as far as a stand-in can go


def matrix(job: str, name: str) -> list[str]:
    """What the workflow runs a job with."""
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text("utf-8")
    of_the_job = re.split(rf"^  {job}:", workflow, flags=re.MULTILINE)[1]
    return re.findall(r"[\w.-]+", re.search(rf"^ +{name}: \[(.*)\]$", of_the_job, re.MULTILINE)[1])


def test_the_workflow_runs_every_row_of_versions_and_every_python_of_the_classifiers():
    assert matrix("versions", "name") == list(versions.NAMES)
    tested = {f"Programming Language :: Python :: {each}" for each in matrix("test", "python")}
    minors = {each for each in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", each)}
    assert minors
    assert minors <= tested


def test_every_target_of_make_that_a_workflow_or_ci_runs_exists():
    files = [ROOT / ".ci" / "run", *(ROOT / ".github" / "workflows").glob("*.yml")]
    run_there = {
        target
        for each in files
        for target in re.findall(
            r"^(?: +- run: )?make (\w+)", each.read_text("utf-8"), re.MULTILINE
        )
    }
    targets = re.search(r"^\.PHONY: demo (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert {"check", "test", "docs", "wheel", "versions"} <= run_there <= set(targets[1].split())


def test_ci_runs_check_and_test():
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    text = script.read_text("utf-8")
    assert text.index("make check") < text.index("make test")
