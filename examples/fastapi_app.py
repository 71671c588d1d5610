"""A web application: runs are streamed to browsers as they happen, and people approve the plans.

    pip install "pyagent-sdk[openai]" fastapi uvicorn
    OPENAI_API_KEY=... uvicorn examples.fastapi_app:app

Runs are kept in `runs.db`. So a browser that loses its connection goes on with its run, and a run
that waits for a person waits as long as it takes. Spends money: a few cents a run. Put your own
authentication before it.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final

from fastapi import FastAPI, HTTPException
from fastapi.responses import HTMLResponse, StreamingResponse
from pydantic import BaseModel

from pyagent_patterns import Agent, OrchestratorWorkers, sse
from pyagent_patterns.durable import RunDetail, Runs
from pyagent_patterns.errors import UnknownRunError
from pyagent_patterns.people import Decision
from pyagent_providers import OpenAILLM

team = OrchestratorWorkers(
    orchestrator=Agent("editor", OpenAILLM("gpt-4o-mini"), system_prompt="You plan articles."),
    workers=[
        Agent("writer", OpenAILLM("gpt-4o-mini"), description="writes clear prose"),
        Agent("checker", OpenAILLM("gpt-4o-mini"), description="checks what was written"),
    ],
    approve=["plan"],
)
# What a browser is sent; the other events have prompts and every call's costs.
SENT: Final = ("plan_accepted", "assignment_started", "outcome_settled", "text_delta",
               "approval_wanted", "run_done", "run_stopped")  # fmt: skip

runs = Runs(os.environ.get("PYAGENT_DB", "runs.db"))
tasks: dict[str, str] = {}  # of runs that have not begun


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
    with runs:
        yield


app = FastAPI(lifespan=lifespan)


class NewRun(BaseModel):
    task: str


class Decided(BaseModel):
    key: str
    approved: bool
    reason: str = ""


@app.post("/runs", status_code=201)
async def begin(new: NewRun) -> dict[str, str]:
    """A run's id. It begins when its events are read."""
    run_id = uuid.uuid4().hex
    tasks[run_id] = new.task
    return {"run_id": run_id}


@app.get("/runs/{run_id}/events")
async def events(run_id: str) -> StreamingResponse:
    """The run's events, until it is done or waits. Reading them again goes on with it."""
    task = tasks.get(run_id) or (await known(run_id)).run.task
    stream = sse.events(team, task, run_id=run_id, durable=runs, only=SENT)
    return StreamingResponse(stream, headers=dict(sse.HEADERS))


@app.post("/runs/{run_id}/decisions", status_code=204)
async def decide(run_id: str, decided: Decided) -> None:
    """Decide what the run waits for: `key` is that of an `approval_wanted`."""
    if decided.key not in {wanted.key for wanted in (await known(run_id)).wanted}:
        raise HTTPException(409, "the run does not wait for this decision")
    decision = Decision(approved=decided.approved, reason=decided.reason)
    await runs.signal(run_id, decided.key, decision.to_dict())


async def known(run_id: str) -> RunDetail:
    """What is on record of a run."""
    try:
        return await runs.get(run_id)
    except UnknownRunError:
        raise HTTPException(404, "there is no such run") from None


@app.get("/")
async def page() -> HTMLResponse:
    return HTMLResponse(PAGE)


PAGE: Final = """<!doctype html><meta charset="utf-8"><title>A team at work</title>
<form><input name="task" size="60" value="Why is the sea salty?"><button>Run</button></form>
<pre id="log"></pre><pre id="answer" style="white-space: pre-wrap"></pre>
<script>
const post = (url, body) => fetch(url, {method: "POST", body: JSON.stringify(body),
  headers: {"Content-Type": "application/json"}});
const say = text => log.textContent += text + "\\n";
const show = run => {  // text of a model goes into textContent, never into innerHTML
  const events = new EventSource(`/runs/${run}/events`);
  const on = (type, then) => events.addEventListener(type, sent => then(JSON.parse(sent.data)));
  on("assignment_started", ({assignment}) => say(`${assignment.worker}: ${assignment.subtask}`));
  on("outcome_settled", ({outcome}) => say(`${outcome.worker}: ${outcome.status}`));
  on("text_delta", ({closing, text}) => { if (closing) answer.textContent += text; });
  on("run_done", ({result}) => { events.close(); answer.textContent = result.output; });
  let wanted = [];
  on("approval_wanted", event => wanted.push(event.wanted));
  on("run_stopped", async ({status, error}) => {
    events.close();
    if (status !== "suspended") return say(error);
    for (const {key, text} of wanted)
      await post(`/runs/${run}/decisions`, {key, approved: confirm(text)});
    show(run);
  });
};
document.forms[0].onsubmit = async submit => {
  submit.preventDefault();
  log.textContent = answer.textContent = "";
  show((await (await post("/runs", {task: submit.target.task.value})).json()).run_id);
};
</script>"""
