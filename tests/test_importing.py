"""What an import costs is paid by everybody: what few need is loaded, or made, when it is used."""

from __future__ import annotations

import ast
import subprocess
import sys
import textwrap
from pathlib import Path

from tests.test_architecture import modules

ROOT = Path(__file__).parent.parent
IMPORTS = """
import pyagent_patterns
from pyagent_providers import AnthropicLLM, GeminiLLM, OpenAILLM
"""


def printed(program: str) -> str:
    run = [sys.executable, "-c", textwrap.dedent(program)]
    return subprocess.run(run, capture_output=True, text=True, check=True, cwd=ROOT).stdout.strip()


def loaded(names: set[str], *, by: str) -> set[str]:
    """Which of these modules such a program loads in a fresh process."""
    begin = "import sys; before = set(sys.modules)"
    end = f"print(*({names!r} & (sys.modules.keys() - before)))"
    return set(printed(f"{begin}\n{by}\n{end}").split())


def test_what_few_runs_need_is_not_loaded_by_an_import() -> None:
    rarely = {"email.utils", "random", "sqlite3", "pydantic"}
    ours = {"events", "telling", "step_log", "tool_loop", "html", "durable", "spec", "mcp", "cli"}
    rarely |= {f"pyagent_patterns.{name}" for name in ours}
    assert loaded(rarely, by=IMPORTS) == set()


A_RUN = """
import asyncio, logging
from pyagent_patterns import Agent, Pipeline
from pyagent_providers.testing import ScriptedLLM
team = Pipeline([Agent("a", ScriptedLLM(["done"]))])
"""
EVENTS = {"pyagent_patterns.events", "pyagent_patterns.telling"}


def test_a_run_that_nobody_follows_makes_no_events() -> None:
    assert loaded(EVENTS, by=f'{A_RUN}\nasyncio.run(team.run("t"))') == set()


def test_events_load_for_an_observer_or_for_a_log_that_takes_the_steps() -> None:
    observed = f'{A_RUN}\nasyncio.run(team.run("t", on_event=lambda event: None))'
    logged = f'{A_RUN}\nlogging.basicConfig(level="INFO")\nasyncio.run(team.run("t"))'
    assert loaded(EVENTS, by=observed) == EVENTS
    assert loaded(EVENTS, by=logged) == EVENTS


def test_no_pattern_of_a_secret_is_compiled_until_a_text_may_have_one() -> None:
    compiled = """
        from pyagent_providers.looks_secret import RULES
        from pyagent_providers.redaction import redacted
        def compiled():
            return [rule.kind for rule in RULES if "pattern" in vars(rule)]
        redacted("a text of many words, and no secrets")
        print(compiled())
        redacted("it begins with hf_, as it happens")
        print(compiled())
    """
    assert printed(IMPORTS + textwrap.dedent(compiled)).splitlines() == [
        "[]",
        "['Hugging Face token']",
    ]


def test_every_dataclass_says_what_it_is() -> None:
    """Else `dataclass` writes its signature there, which takes as long as making the class."""
    silent = [
        f"{name}.{node.name}"
        for name, path in modules().items()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef)
        and any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list)
        and ast.get_docstring(node) is None
    ]
    assert silent == []
