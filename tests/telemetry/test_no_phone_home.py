"""Nothing is sent anywhere but where the application says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROGRAM = """
import asyncio, socket, sys

asked = []

def refuse(kind, where):
    host = str(where[0] if isinstance(where, tuple) else where)
    if not host.startswith("127.") and host not in ("localhost", "::1") and "/" not in host:
        asked.append((kind, host))
        raise OSError(f"{kind} {host}")

def watch(name, place):
    real = getattr(place, name)
    def watched(*given, **more):
        refuse(name, given[0] if place is socket else given[1])
        return real(*given, **more)
    setattr(place, name, watched)

for name in ("getaddrinfo", "gethostbyname", "create_connection"):
    watch(name, socket)
for name in ("connect", "connect_ex", "sendto"):
    watch(name, socket.socket)

import pyagent_exporters, pyagent_patterns, pyagent_providers
from pyagent_exporters import configure
from pyagent_patterns import Agent, OrchestratorWorkers, Pipeline
from pyagent_providers import AnthropicLLM, GeminiLLM, OpenAILLM
from pyagent_providers.testing import ScriptedLLM

for adapter, model in ((OpenAILLM, "gpt-4o"), (AnthropicLLM, "claude-sonnet-4-20250514"),
                       (GeminiLLM, "gemini-2.5-flash")):
    adapter(model, api_key="k").check()
with configure(console=True, prometheus=0, service_name="quiet"):
    llm = ScriptedLLM(["done"], model="gpt-4o", provider="openai")
    result = Pipeline([Agent("writer", llm)]).run_sync("a task", durable=sys.argv[1])
assert result.unpriced == 0, "the price table was asked too"
print(asked)
"""


def test_building_pricing_keeping_and_exporting_a_run_asks_no_other_machine(tmp_path: Path):
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "runs.db")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
