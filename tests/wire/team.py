"""A responder that plays a whole team: it plans with every worker, works and synthesises."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, cast

from pyagent_providers.types import Usage

from .script import Reply
from .server import Responder, Sent

USAGE = Usage(input_tokens=1000, output_tokens=100)


def team_responder(depends_on: Mapping[str, Sequence[str]] | None = None) -> Responder:
    """Plans one assignment per worker the schema names; `depends_on` by worker's name."""

    def respond(sent: Sent) -> Reply:
        if sent.schema is None:
            return Reply(f"done: {sent.messages[-1].content.splitlines()[0]}", usage=USAGE)
        schema = cast("Any", sent.schema)
        workers = schema["properties"]["assignments"]["items"]["properties"]["worker"]["enum"]
        assignments = [
            {
                "id": f"id-{name}",
                "worker": name,
                "subtask": f"do what a {name} does",
                "depends_on": list((depends_on or {}).get(name, ())),
            }
            for name in workers
        ]
        return Reply(json.dumps({"assignments": assignments}), usage=USAGE)

    return respond
