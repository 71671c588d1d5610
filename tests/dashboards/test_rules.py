"""The rules and alerts: valid, right in every case of their own tests, with somewhere to read."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from .conftest import CAUSED, Fed
from .servers import PROMETHEUS, ROOT, RULES

TESTS = sorted((PROMETHEUS / "tests").glob("*.yml"))

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="needs promtool, of Debian's prometheus"
)


def promtool(*arguments: str | Path) -> None:
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def rules(path: Path) -> Iterator[dict[str, Any]]:
    for group in yaml.safe_load(path.read_text())["groups"]:
        yield from group["rules"]


ALERTS = [rule for rule in rules(PROMETHEUS / "alerts.yml") if "alert" in rule]
RECORDED = [rule for rule in rules(PROMETHEUS / "rules.yml") if "record" in rule]


@needs_promtool
def test_promtool_finds_the_rules_valid() -> None:
    promtool("check", "rules", *RULES)


@needs_promtool
@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
def test_the_rules_own_tests_pass(path: Path) -> None:
    promtool("test", "rules", path)


@needs_promtool
def test_promtool_finds_the_configuration_valid() -> None:
    promtool("check", "config", PROMETHEUS / "pull.yml")


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_every_alert_is_tested_to_fire_and_not_to(alert: dict[str, Any]) -> None:
    cases = [
        case
        for path in TESTS
        for test in yaml.safe_load(path.read_text())["tests"]
        for case in test.get("alert_rule_test", ())
        if case["alertname"] == alert["alert"]
    ]
    assert {bool(case["exp_alerts"]) for case in cases} == {True, False}


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_every_alert_says_how_grave_it_is_what_it_saw_and_where_to_read_on(
    alert: dict[str, Any],
) -> None:
    assert alert["labels"]["severity"] in ("warning", "critical")
    said = alert["annotations"]
    assert said["summary"]
    assert "$value" in said["summary"] + said["description"] or ">" in alert["expr"]
    page, _, anchor = said["runbook_url"].partition("#")
    headings = re.findall(r"^#+ (.*)$", (ROOT / page).read_text(), re.MULTILINE)
    assert anchor in [heading.lower().replace(" ", "-") for heading in headings]


@pytest.mark.parametrize("rule", RECORDED, ids=lambda rule: rule["record"])
def test_every_recording_rule_records_something_of_real_runs(
    fed: Fed, rule: dict[str, Any]
) -> None:
    assert fed.server.query(rule["record"]), rule["expr"]


def test_spend_in_the_last_hour_is_what_the_runs_results_say(fed: Fed) -> None:
    total = float(fed.costs["total"][""])
    hour = "pyagent_cost_usd:increase1h"
    assert fed.server.by("job", f"job:{hour}") == {"pyagent": pytest.approx(total)}
    assert fed.server.by("gen_ai_request_model", f"model:{hour}") == {
        model: pytest.approx(float(usd)) for model, usd in fed.costs["model"].items()
    }
    for level in ("tenant", "pattern", "agent"):
        split = fed.server.by("", f"sum({level}:{hour})")
        assert split == {"": pytest.approx(total)}


def test_the_alerts_that_real_runs_gave_cause_for_are_there_and_no_others(fed: Fed) -> None:
    raised = fed.server.by("alertname", "max by (alertname) (ALERTS)")
    assert set(raised) == set(CAUSED)
