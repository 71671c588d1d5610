"""From a run to whoever is told, through a real Prometheus and a real Alertmanager."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import yaml

from .servers import (
    ALERTMANAGER,
    PROMETHEUS,
    PROMETHEUS_SERVER,
    RULES,
    app,
    eventually,
    executable,
    free_port,
    process,
    prometheus,
    scraping,
)


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[dict[str, Any]]]:
    """What arrives at a webhook, after one round of runs and one that never ends."""
    if PROMETHEUS_SERVER is None or ALERTMANAGER is None:
        pytest.skip("needs Debian's prometheus and prometheus-alertmanager")
    directory = tmp_path_factory.mktemp("alerts")
    with (
        _webhook() as (url, alerts),
        _alertmanager(directory, url) as manager,
        app(directory) as runs,
    ):
        runs.stick()
        runs.round()
        config = scraping(
            runs.url,
            rules=[_at_once(path, directory) for path in RULES],
            alerting={"alertmanagers": [{"static_configs": [{"targets": [manager]}]}]},
        )
        with prometheus(directory / "server", config, program=PROMETHEUS_SERVER):
            eventually("a stuck run", lambda: _named(alerts, "PyAgentRunsStuck"))
            eventually("an open breaker", lambda: _named(alerts, "PyAgentBreakerOpen"))
            yield alerts


def test_an_unpriced_call_is_told_in_words_that_name_the_model(told: list[dict[str, Any]]) -> None:
    alert = eventually("the alert", lambda: _named(told, "PyAgentUnpricedCalls"))
    assert alert["status"] == "firing"
    assert alert["labels"] == {
        "alertname": "PyAgentUnpricedCalls",
        "severity": "warning",
        "job": "pyagent",
        "gen_ai_request_model": "house-model",
        "gen_ai_provider_name": "in_house",
    }
    assert alert["annotations"]["summary"] == "Nobody knows what house-model costs"
    assert "made 1 calls to house-model at in_house" in alert["annotations"]["description"]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("PyAgentBudgetRejections", "1 calls of clerk (pipeline, acme) were not made"),
        ("PyAgentModelErrors", "to gpt-4o-mini at openai"),
        ("PyAgentBreakerOpen", "sends no calls to mistral-large at mistral_ai"),
        ("PyAgentRunsStuck", "1 runs of pyagent at"),
    ],
)
def test_other_alerts_arrive_too(told: list[dict[str, Any]], name: str, says: str) -> None:
    alert = eventually(name, lambda: _named(told, name))
    assert says in alert["annotations"]["description"]


def test_nothing_is_told_that_there_was_no_cause_for(told: list[dict[str, Any]]) -> None:
    assert {alert["labels"]["alertname"] for alert in told} <= {
        "PyAgentUnpricedCalls",
        "PyAgentBudgetRejections",
        "PyAgentModelErrors",
        "PyAgentBreakerOpen",
        "PyAgentRunsStuck",
    }


@pytest.mark.skipif(executable("amtool") is None, reason="needs amtool, of Alertmanager")
def test_alertmanagers_own_configuration_is_valid() -> None:
    file = PROMETHEUS / "alertmanager.yml"
    done = subprocess.run(["amtool", "check-config", file], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def _at_once(path: Path, directory: Path) -> Path:
    """The rules, but that nothing has to last before it is told.

    Where a call ended just now, runs are not stuck: they are looked at within a second.
    """
    rules = yaml.safe_load(path.read_text())
    for group in rules["groups"]:
        for rule in group["rules"]:
            rule.pop("for", None)
            if rule.get("alert") == "PyAgentRunsStuck":
                assert "[5m]" in rule["expr"]
                rule["expr"] = rule["expr"].replace("[5m]", "[2s]")
    changed = directory / path.name
    changed.write_text(yaml.safe_dump(rules))
    return changed


def _named(alerts: list[dict[str, Any]], name: str) -> dict[str, Any] | None:
    return next((alert for alert in alerts if alert["labels"]["alertname"] == name), None)


@contextmanager
def _webhook() -> Generator[tuple[str, list[dict[str, Any]]]]:
    """A receiver's URL, and the alerts that have arrived there so far."""
    alerts: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            alerts.extend(json.loads(body)["alerts"])
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/", alerts
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def _alertmanager(directory: Path, receiver: str) -> Generator[str]:
    """Alertmanager's address; it is configured as ours is, but tells the receiver, and at once."""
    assert ALERTMANAGER is not None
    config = yaml.safe_load((PROMETHEUS / "alertmanager.yml").read_text())
    config["receivers"] = [{"name": "team", "webhook_configs": [{"url": receiver}]}]
    config["route"] |= {"group_wait": "100ms", "group_interval": "1s"}
    file, address = directory / "alertmanager.yml", f"127.0.0.1:{free_port()}"
    file.write_text(yaml.safe_dump(config))
    with process(
        ALERTMANAGER, f"--config.file={file}", f"--storage.path={directory / 'data'}",
        f"--web.listen-address={address}", "--cluster.listen-address=",
        log=directory / "alertmanager.log", stdout=subprocess.DEVNULL,
    ):  # fmt: skip
        yield address
