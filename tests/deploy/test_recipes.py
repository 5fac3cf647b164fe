"""deploy/: every file against what its readers take, and against what the server is."""

from __future__ import annotations

import contextlib
import importlib.resources
import json
import re
import subprocess
import sys

import dspy
import httpx
import jsonschema
import pytest
import ruamel.yaml
from kubernetes_validate import latest_version, validate

from brokers.servers import free_port
from deploy import promtool
from deploy.dockerfile import ROOT, stages
from serve import nginx
from serve.serving import Server, wait_until
from streamll.cli.serve import DRAIN_TIMEOUT_S
from streamll.serve import Limits, create_app

DEPLOY = ROOT / "deploy"
KUBERNETES = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
OLDEST_KUBERNETES = "1.25"


def read(path):
    return ruamel.yaml.YAML(typ="safe", pure=True).load(path)


def manifest(name):
    return read(DEPLOY / "kubernetes" / f"{name}.yaml")


# --- each file for itself -------------------------------------------------------------------------


@pytest.mark.parametrize("version", [OLDEST_KUBERNETES, latest_version()])
def test_kubernetes_takes_every_manifest(version):
    listed = manifest("kustomization")
    assert {f"{path.name}" for path in KUBERNETES} == {*listed["resources"], "kustomization.yaml"}
    for name in listed["resources"]:
        validate(read(DEPLOY / "kubernetes" / name), version, strict=True)


def test_compose_takes_its_file():
    schemas = importlib.resources.files("check_jsonschema.builtin_schemas.vendor")
    schema = json.loads((schemas / "compose-spec.json").read_text())
    jsonschema.validate(read(DEPLOY / "compose.yml"), schema)


@pytest.fixture
def proxy(tmp_path):
    """nginx with its file, and with folders, a port and a server that are there."""
    folders, port = nginx.temporary_paths(tmp_path), free_port()

    def start(upstream: int, *options: str) -> tuple[str, subprocess.Popen]:
        text = (DEPLOY / "nginx.conf").read_text().replace("http {", f"http {{\n{folders}", 1)
        text = text.replace("listen 8080;", f"listen 127.0.0.1:{port};")
        text = text.replace("server:8000;", f"127.0.0.1:{upstream};")
        (tmp_path / "nginx.conf").write_text(text)
        own = ["-g", f"daemon off; pid {tmp_path}/pid;"]
        streams = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
        return f"http://127.0.0.1:{port}", nginx.start(tmp_path, *options, *own, **streams)

    return start


def test_nginx_takes_its_file(proxy):
    _, checking = proxy(8000, "-t", "-q")
    _, said = checking.communicate(timeout=60)
    assert (checking.returncode, said) == (0, "")


def test_nginx_passes_everything_on_but_the_metrics(proxy, tmp_path):
    app = create_app(dspy.Predict("question -> answer"), log=f"sqlite:///{tmp_path}/log.db")
    server = Server(app)
    url, running = proxy(server.port)
    try:
        with httpx.Client(base_url=url, trust_env=False, timeout=60) as client:

            def healthy() -> bool:
                with contextlib.suppress(httpx.TransportError):
                    return client.get("/healthz").status_code == 200
                return False

            wait_until(healthy, what="nginx's start")
            assert client.get("/runs").json() == {"runs": [], "more": False}
            assert client.get("/metrics").status_code == 404
    finally:
        running.terminate()
        running.communicate(timeout=60)
        server.stop()


def test_nginx_has_the_settings_of_the_page_about_proxies():
    page = (ROOT / "docs" / "proxy.md").read_text()
    blocks = "".join(re.findall(r"```nginx\n(.*?)```", page, re.DOTALL))
    asked = re.findall(r"^ *(proxy_\w+ [^;]+;|map [^\n]+)$", blocks, re.MULTILINE)
    config = (DEPLOY / "nginx.conf").read_text()
    settings = {each for each in asked if not each.startswith("proxy_pass")}
    assert len(settings) >= 8
    assert [each for each in settings if each not in config] == []
    assert "'$remote_addr [$time_local] $request_method $uri" in page
    assert "'$remote_addr [$time_local] $request_method $uri" in config


def test_prometheus_takes_its_files_and_every_alert_has_its_case():
    folder = DEPLOY / "prometheus"
    for arguments in (
        ["check", "rules", str(folder / "rules.yml")],
        ["check", "config", "--syntax-only", str(folder / "scrape.yml")],
        ["test", "rules", str(folder / "rules-test.yml")],
    ):
        done = promtool.run(*arguments)
        assert done.returncode == 0, done.stdout + done.stderr
    alerts = {rule["alert"] for rule in alert_rules()}
    cases = (folder / "rules-test.yml").read_text()
    assert {name for name in alerts if f'alertname="{name}"' not in cases} == set()


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Grafana's package begins there")
def test_grafana_knows_everything_in_the_dashboard():
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.cog.plugins import register_default_plugins
    from grafana_foundation_sdk.models.dashboard import Dashboard

    register_default_plugins()
    given = json.loads((DEPLOY / "grafana" / "dashboard.json").read_text())
    known = json.loads(JSONEncoder().encode(Dashboard.from_json(given)))
    assert missing(given, known) == []
    ids = [panel["id"] for panel in given["panels"]]
    assert len(set(ids)) == len(ids)


def missing(given, known, place=""):
    """What of the first is not in the second, by its place."""
    if isinstance(given, dict) and isinstance(known, dict):
        pairs = [(key, value, known.get(key)) for key, value in given.items()]
    elif isinstance(given, list) and isinstance(known, list) and len(given) == len(known):
        pairs = [(str(n), *pair) for n, pair in enumerate(zip(given, known, strict=True))]
    else:
        return [] if given == known else [place]
    return [each for key, *both in pairs for each in missing(*both, f"{place}/{key}")]


# --- with the server ------------------------------------------------------------------------------


def alert_rules():
    [group] = read(DEPLOY / "prometheus" / "rules.yml")["groups"]
    return group["rules"]


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """What a server that has served something says at /metrics."""
    from starlette.testclient import TestClient

    log = f"sqlite:///{tmp_path_factory.mktemp('metrics')}/log.db"
    with TestClient(
        create_app(dspy.Predict("question -> answer"), log=log), base_url="http://localhost"
    ) as client:
        client.get("/runs")
        return client.get("/metrics").text


def names_in(text):
    return set(re.findall(r"\b(?:streamll|process)_[a-z_]+", text))


def test_every_metric_that_is_asked_for_is_exported(exported):
    sources = {
        "rules": " ".join(rule["expr"] for rule in alert_rules()),
        "dashboard": (DEPLOY / "grafana" / "dashboard.json").read_text(),
        "autoscaler": (DEPLOY / "kubernetes" / "autoscaler.yaml").read_text(),
    }
    there_are = names_in(exported) | {"streamll_runs_ended_total"}  # with the first run that ends
    assert "# TYPE streamll_runs_ended counter" in exported
    for source, text in sources.items():
        asked = names_in(text)
        assert len(asked) >= 2, source
        assert asked - there_are == set(), source


def test_prometheus_reads_what_is_exported(exported):
    from prometheus_client.openmetrics.parser import text_string_to_metric_families

    families = {each.name: each for each in text_string_to_metric_families(exported)}
    assert families["streamll_readers_limit"].samples[0].value == Limits().readers
    assert families["streamll_runs_limit"].samples[0].value == Limits().runs
    assert families["process_resident_memory_bytes"].samples[0].value > 10e6
    assert families["process_open_fds"].samples[0].value > 3


def test_the_autoscaler_asks_for_what_the_adapter_makes(exported):
    [rule] = read(DEPLOY / "prometheus" / "adapter.yml")["rules"]
    pattern = re.search(r'__name__=~"([^"]+)"', rule["seriesQuery"])[1]
    for each in manifest("autoscaler")["spec"]["metrics"]:
        name = each["pods"]["metric"]["name"]
        assert re.search(pattern, name)
        assert f"# TYPE {name} gauge" in exported


def test_the_manifests_fit_each_other_the_image_and_the_server():
    spec = manifest("deployment")["spec"]
    pod = spec["template"]["spec"]
    [server] = pod["containers"]
    labels = spec["template"]["metadata"]["labels"]
    assert spec["selector"]["matchLabels"] == labels
    assert manifest("service")["spec"]["selector"] == labels
    assert manifest("disruption")["spec"]["selector"]["matchLabels"] == labels
    assert manifest("network")["spec"]["podSelector"]["matchLabels"] == labels
    target = manifest("autoscaler")["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == (
        "Deployment",
        manifest("deployment")["metadata"]["name"],
    )

    image = {each.name: each for each in stages((DEPLOY / "Dockerfile").read_text())[-1]}
    security = pod["securityContext"]
    assert image["USER"].value == f"{security['runAsUser']}:{security['runAsGroup']}"
    assert [port["containerPort"] for port in server["ports"]] == [int(image["EXPOSE"].value)]

    [command, seconds] = server["lifecycle"]["preStop"]["exec"]["command"]
    assert command == "sleep"
    assert pod["terminationGracePeriodSeconds"] > int(seconds) + DRAIN_TIMEOUT_S
    compose = read(DEPLOY / "compose.yml")["services"]["server"]
    assert int(compose["stop_grace_period"].removesuffix("s")) > DRAIN_TIMEOUT_S
