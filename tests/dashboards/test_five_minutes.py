"""The page "From zero to a cost dashboard in five minutes", followed in a fresh folder."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from .servers import ROOT, free_port

PAGE = ROOT / "docs" / "five_minutes.md"
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
PORTS = ("4318", "9464", "9090")  # the page's; others may be using them where this is run
LOCAL, DOCKER = PAGE.read_text().split("## 5. Grafana, with Docker")


@dataclass(frozen=True)
class Step:
    """A piece of the page: commands with what they print, or a file to save."""

    kind: str
    text: str
    saved_as: str | None


def steps(text: str) -> list[Step]:
    found: list[Step] = []
    for match in FENCE.finditer(text):
        before = text[: match.start()].rstrip()
        name = re.search(r"[Ss]ave this as `([^`]+)`:$", before)
        found.append(Step(match[1], match[2], name and name[1]))
    return found


def script(pieces: list[Step]) -> str:
    """All commands of the page in one shell, each piece's output after a line that numbers it."""
    lines = ["set -euo pipefail"]
    for number, piece in enumerate(pieces):
        if piece.kind == "sh" and "pip install" not in piece.text:
            lines += [f"echo '=== {number}'", piece.text]
    return "\n".join(lines)


def printed(output: str) -> dict[int, str]:
    """What each piece printed, without the viewer's address, which comes when it is ready."""
    output = re.sub(r"^http://127\.0\.0\.1:\d+/\n", "", output, flags=re.MULTILINE)
    parts = re.split(r"^=== (\d+)\n", output, flags=re.MULTILINE)
    return {int(number): text for number, text in zip(parts[1::2], parts[2::2], strict=True)}


@pytest.mark.skipif(
    None in (shutil.which("prometheus"), shutil.which("promtool"), shutil.which("curl")),
    reason="needs Debian's prometheus, and curl",
)
def test_the_page_up_to_docker_does_what_it_says(tmp_path: Path) -> None:
    text = LOCAL
    for port in PORTS:
        text = text.replace(port, str(free_port()))
    text = text.replace("pyagent ui", f"pyagent ui --port {port_of(text)}")
    pieces = steps(text)
    for piece in pieces:
        if piece.saved_as is not None:
            (tmp_path / piece.saved_as).write_text(piece.text)
    output = followed(script(pieces), tmp_path)
    said = printed(output)
    expected = {n - 1: piece.text for n, piece in enumerate(pieces) if piece.kind == "text"}
    assert len(expected) == 5
    for number, promise in expected.items():
        like = re.escape(promise).replace(r"\[\.\.\.\]", r"\[[\d.]+\]")
        assert re.fullmatch(like, said[number]), said[number]


def followed(commands: str, directory: Path) -> str:
    """What the commands print. Nothing they began goes on after it."""
    shell = subprocess.Popen(
        ["bash", "-c", commands],
        cwd=directory,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        output, complaints = shell.communicate(timeout=180)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(shell.pid, signal.SIGKILL)
    assert shell.returncode == 0, output + complaints
    return output


def port_of(text: str) -> str:
    """The viewer's port: the page leaves it to the default, which may be in use here."""
    found = re.search(r"http://127\.0\.0\.1:(\d+)/costs\.csv", text)
    assert found is not None
    return found[1]


def environment() -> dict[str, str]:
    """Ours, with the checkout's programs first, no browser, and nothing of OpenTelemetry's set."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    return ours | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'exporters'}",
        "BROWSER": "true",
    }


def test_the_page_installs_extras_that_there_are() -> None:
    (extras,) = re.findall(r'pip install "pyagent-sdk\[([^\]]+)\]"', LOCAL)
    named = re.findall(r"^(\w+) = \[", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert set(extras.split(",")) <= set(named)


def test_what_the_page_says_of_docker_is_what_the_compose_file_has() -> None:
    compose = ROOT / "exporters" / "compose.yaml"
    assert "docker compose -f exporters/compose.yaml up -d" in DOCKER
    services = yaml.safe_load(compose.read_text())["services"]
    published = {port.split(":")[1] for service in services.values() for port in service["ports"]}
    ports = re.findall(r"http://127\.0\.0\.1:(\d+)", DOCKER)
    assert ports
    assert set(ports) <= published
    for variable in re.findall(r"^export (\S+)$", DOCKER, re.MULTILINE):
        assert variable in compose.read_text()
