"""What `pyagent init` writes: a small team that runs as it is, without a key."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

_TEAM: Final = """\
# yaml-language-server: $schema=team.schema.json

# What the team is for. {{ topic }} is one of the team's inputs, below.
objective: |
  Write a short briefing on {{ topic }} for somebody who has five minutes.

models:
  # A stand-in that needs no key, so that you can try the team at once.
  # For a real model write, for example, openai:gpt-4o-mini and set OPENAI_API_KEY.
  main: custom:offline.py:answer

agents:
  researcher:
    llm: main
    system_prompt: |
      You collect what somebody new to a topic must know: five facts at most, each with why it
      matters. Say what you are not sure of.
    tools:
      - tools.py:today
    max_tokens: 800

  writer:
    llm: main
    system_prompt: |
      You write briefings from notes: plain words, short sentences, the most important first.
    max_tokens: 800

team:
  pattern: pipeline
  stages: [researcher, writer]
  budget:
    max_calls: 20
    # max_cost_usd: 0.50    # with a real model
  inputs:
    type: object
    properties:
      topic: {type: string, description: What the briefing is about.}
    required: [topic]
    additionalProperties: false
"""

_TOOLS: Final = '''\
"""Tools for the team: typed functions, which agents may call."""

from datetime import date

from pyagent_patterns import tool


@tool(effect="read")
def today() -> str:
    """Today's date, as YYYY-MM-DD."""
    return date.today().isoformat()
'''

_OFFLINE: Final = '''\
"""A stand-in for a model, to try the team without a key: it says what it was asked."""

from collections.abc import Sequence

from pyagent_providers import Message


async def answer(messages: Sequence[Message]) -> str:
    return f"(No model answered. The question was:)\\n\\n{messages[-1].content}"
'''

_README: Final = """\
# A team of agents

`team.yaml` says who is in the team and how they work together, `tools.py` has what they can use.

```console
$ pip install "pyagent-sdk[cli,spec,openai]"
$ pyagent validate team.yaml
$ pyagent run team.yaml --input topic="the tides"
$ pyagent graph team.yaml
```

It runs with the stand-in of `offline.py` at first. For a real model, change `models` in
`team.yaml`, copy `.env.example` to `.env`, put your key in it, and load it before you run:

```console
$ set -a; . ./.env; set +a
```
"""

_ENVIRONMENT: Final = """\
# Copy this to .env, which does not belong in version control.
OPENAI_API_KEY=
"""


def starter_files() -> Mapping[str, str]:
    """Names and texts of the files of a starter project."""
    from pyagent_patterns.spec import json_schema

    return {
        "team.yaml": _TEAM,
        "team.schema.json": json.dumps(json_schema(), indent=2) + "\n",
        "tools.py": _TOOLS,
        "offline.py": _OFFLINE,
        "README.md": _README,
        ".env.example": _ENVIRONMENT,
        ".gitignore": ".env\n__pycache__/\n*.db\n",
    }
