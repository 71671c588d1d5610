"""A responder that plays a whole team: it plans with every worker, chooses, judges and works."""

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
        if "assignments" not in schema["properties"]:
            return Reply(form_filled(schema), usage=USAGE)
        if "What is finished so far" in sent.messages[-1].content:
            return Reply('{"assignments": []}', usage=USAGE)
        worker = schema["properties"]["assignments"]["items"]["properties"]["worker"]
        if "enum" not in worker:
            return Reply(json.dumps(_PLAN_WITH_AN_AGENT), usage=USAGE)
        workers = worker["enum"]
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


def form_filled(schema: Mapping[str, Any]) -> str:
    """An answer that follows a schema: a plan for all, the first route, acceptance, any form."""
    form = schema["properties"]
    if "assignments" in form:
        workers = form["assignments"]["items"]["properties"]["worker"]["enum"]
        plan = [{"worker": name, "subtask": f"what {name} does"} for name in workers]
        return json.dumps({"assignments": plan})
    if "routes" in form:
        first = form["routes"]["items"]["properties"]["route"]["enum"][0]
        chosen = [{"route": first, "confidence": 0.75}]
        return json.dumps({"routes": chosen, "reason": "it is the first"})
    return json.dumps({name: _VALUES[value["type"]] for name, value in form.items()})


_VALUES = {"string": "words", "integer": 3, "number": 0.5, "boolean": True, "array": []}
_PLAN_WITH_AN_AGENT = {
    "assignments": [{"worker": "specialist", "subtask": "what nobody else can"}],
    "agents": [{"name": "specialist", "role": "knows this one thing", "prompt": "You know it."}],
}
