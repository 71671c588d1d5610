"""The compose file and what it mounts: every file is there, and every part finds the others."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from .servers import GRAFANA, PROMETHEUS, ROOT

FILE = ROOT / "exporters" / "compose.yaml"
COMPOSE: dict[str, Any] = yaml.safe_load(FILE.read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
PROVISIONING = GRAFANA / "provisioning"


def has_compose() -> bool:
    if shutil.which("docker") is None:
        return False
    asked = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False)
    return asked.returncode == 0


@pytest.mark.skipif(not has_compose(), reason="needs Docker's compose")
def test_docker_finds_it_valid() -> None:
    subprocess.run(["docker", "compose", "-f", FILE, "config", "--quiet"], check=True)


@pytest.mark.parametrize("name", SERVICES)
def test_an_image_is_one_version_and_its_ports_are_on_loopback(name: str) -> None:
    version = SERVICES[name]["image"].partition(":")[2]
    assert version.lstrip("v").replace(".", "").isdigit(), SERVICES[name]["image"]
    for port in SERVICES[name]["ports"]:
        assert port.startswith("127.0.0.1:"), port


@pytest.mark.parametrize("name", SERVICES)
def test_what_is_mounted_is_there_or_a_volume(name: str) -> None:
    for mount in SERVICES[name].get("volumes", ()):
        source = mount.split(":")[0]
        assert source in COMPOSE["volumes"] or (FILE.parent / source).exists(), mount


def within(name: str, path: str) -> Path:
    """The file of ours that is at this path within a service."""
    for mount in SERVICES[name]["volumes"]:
        source, target = mount.split(":")[:2]
        if path == target or path.startswith(target + "/"):
            return FILE.parent / source / path.removeprefix(target).lstrip("/")
    raise AssertionError(f"nothing is mounted at {path}")


@pytest.mark.parametrize("name", ["prometheus", "alertmanager"])
def test_the_configuration_it_is_started_with_is_ours(name: str) -> None:
    (given,) = [part for part in SERVICES[name]["command"] if part.startswith("--config.file=")]
    file = within(name, given.partition("=")[2])
    assert yaml.safe_load(file.read_text())


def test_prometheus_loads_our_rules_and_knows_the_alertmanager() -> None:
    for config in ("push.yml", "pull.yml"):
        read = yaml.safe_load((PROMETHEUS / config).read_text())
        for rules in read["rule_files"]:
            assert (PROMETHEUS / rules).exists()
    target = read_targets("push.yml")
    assert target == ["alertmanager:9093"]
    assert "127.0.0.1:9093:9093" in SERVICES["alertmanager"]["ports"]


def read_targets(config: str) -> list[str]:
    read = yaml.safe_load((PROMETHEUS / config).read_text())
    return read["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"]


def test_grafana_finds_its_sources_at_services_that_there_are() -> None:
    provisioned = yaml.safe_load((PROVISIONING / "datasources/pyagent.yml").read_text())
    ports = {"prometheus": "9090", "jaeger": "16686"}
    for source in provisioned["datasources"]:
        assert source["url"] == f"http://{source['type']}:{ports[source['type']]}"
        assert source["type"] in SERVICES


def test_grafana_finds_the_dashboards() -> None:
    provisioned = yaml.safe_load((PROVISIONING / "dashboards/pyagent.yml").read_text())
    (provider,) = provisioned["providers"]
    assert within("grafana", provider["options"]["path"]) == GRAFANA / "dashboards"
    home = SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert json.loads(within("grafana", home).read_text())["uid"] == "pyagent-costs"
