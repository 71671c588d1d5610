"""Every cell of the fault matrix: through the door, over HTTP, with the provider's own SDK."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator, Sequence
from typing import Any, cast

import pytest

from pyagent_providers import Completion, pricing, semconv
from pyagent_providers.types import Usage
from tests.faults.cells import ATTEMPTS, TIMEOUT, Run, ask
from tests.faults.matrix import (
    ANSWERED,
    FAULTS,
    LONGEST_ANSWER,
    MODES,
    TOLD_EARLY,
    Column,
    Ends,
    Fault,
    Mode,
    of,
)
from tests.providers.subjects import SUBJECTS, Subject, warm_up
from tests.wire import Reply, WireServer

GOOD = Reply("All is well.", usage=Usage(input_tokens=9, output_tokens=4))


@pytest.fixture(scope="module")
def server() -> Iterator[WireServer]:
    for subject in SUBJECTS:
        warm_up(subject)
    gc.freeze()  # so that collecting each cell's garbage need not look through all of that
    with WireServer() as server:
        yield server
    gc.unfreeze()


@pytest.fixture(params=[pytest.param(s, marks=s.marks) for s in SUBJECTS], ids=str)
def subject(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Subject:
    monkeypatch.setattr("pyagent_providers.clients.LONGEST_ANSWER", LONGEST_ANSWER)
    subject: Subject = request.param
    return subject


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_a_fault_ends_in_recovery_or_in_its_one_right_error(
    fault: Fault, subject: Subject, mode: Mode, server: WireServer
) -> None:
    """Met once, it is got over if the error says that a retry is safe; met always, it is raised.

    Either way every attempt is in the ledger and the trace as what it was, each was one request,
    and nothing of it is left.
    """
    ends = fault.ends_for(cast(Column, subject.name), mode)
    run = meet(fault, subject, mode, server, times=1)
    if not ends.retried:
        assert ends.error is None or type(run.raised) is ends.error
        assert_recorded(run, [ends])
        assert_paid(run, subject, [ends])
        return
    assert run.result.output == GOOD.text
    assert run.pauses == [fault.waits]
    assert_recorded(run, [ends, ANSWERED])
    assert_paid(run, subject, [ends, ANSWERED])

    run = meet(fault, subject, mode, server, times=ATTEMPTS)
    assert type(run.raised) is ends.error
    assert_recorded(run, [ends] * ATTEMPTS)
    assert_paid(run, subject, [ends] * ATTEMPTS)


@pytest.mark.parametrize(
    ("fault", "mode"),
    [
        pytest.param(fault, mode, id=f"{fault}-{mode}")
        for fault in FAULTS
        for mode in MODES
        if of(fault.llmock, mode)
    ],
)
def test_a_third_partys_server_has_the_same_faults(
    fault: Fault, subject: Subject, mode: Mode, request: pytest.FixtureRequest
) -> None:
    """Lest ours shares our misconceptions."""
    pytest.importorskip("llmock")
    llmock: Any = request.getfixturevalue("llmock")
    ends = fault.ends_for(cast(Column, subject.name), mode)
    ask_for_it = of(fault.llmock, mode)
    assert ask_for_it is not None
    ask_for_it(llmock)
    llm = subject.make(
        base_url=f"{llmock.base_url(subject.llmock)}{subject.llmock_path}",
        timeout=TIMEOUT if fault.silent else 60.0,
    )
    run = ask(llm, mode)
    assert run.pauses == ([fault.waits] if ends.retried else [])
    assert ends.retried or type(run.raised) is ends.error
    assert_recorded(run, [ends, ANSWERED] if ends.retried else [ends])
    assert len(llmock.requests) == len(run.result.calls)


def meet(fault: Fault, subject: Subject, mode: Mode, server: WireServer, *, times: int) -> Run:
    """A run that meets the fault so many times, and a good answer after that."""
    retried = fault.ends_for(cast(Column, subject.name), mode).retried
    answers = [GOOD] * (ATTEMPTS - times if retried else 0)
    faulty = [] if fault.step is None else [of(fault.step, mode)] * times
    server.reset()
    server.script(*faulty, *answers)
    with server.closed_port() as port:
        place = server if faulty else port
        llm = subject.make(
            base_url=place.base_url(subject.dialect), timeout=TIMEOUT if fault.silent else 60.0
        )
        run = ask(
            llm,
            mode,
            on_retry=port.open if answers and not faulty else lambda: None,
            connections=lambda: server.connections,
        )
    server.check()  # as many requests as attempts: the SDK made none of its own
    deadline = time.monotonic() + 5
    while server.connections and time.monotonic() < deadline:
        time.sleep(0.002)
    assert server.connections == 0
    return run


def assert_recorded(run: Run, attempts: Sequence[Ends]) -> None:
    """The ledger has the attempts, and the trace, the metrics and the events say the same."""
    calls = run.result.calls
    for call, ends in zip(calls, attempts, strict=True):
        assert call.error == (ends.error and ends.error.__name__)
        assert call.status == ("ok" if ends.error is None else "failed")
        assert (call.price_source == "not-billed") == (ends.paid == "free")
        assert (call.cost == 0) == (ends.paid == "free")
    assert run.told == list(calls)

    for call, span in zip(calls, run.chat_spans, strict=True):
        assert span.get(semconv.ERROR_TYPE) == call.error
        assert span.get(semconv.INPUT_TOKENS) == (call.usage and call.usage.input_tokens)
        assert span.get(semconv.OUTPUT_TOKENS) == (call.usage and call.usage.output_tokens)
        assert span.get(semconv.COST_USD) == (float(call.cost) if call.cost else None)
    failed = f" !{type(run.error).__name__}" if run.error else ""
    lines = [f"pyagent.pattern.solo{failed}", f"  pyagent.agent.solo worker{failed}"]
    for call in calls:
        lines.append(f"    chat {call.requested_model}" + (f" !{call.error}" if call.error else ""))
    assert run.trace.tree() == "\n".join(lines)

    metric = run.trace.metric
    assert metric(semconv.OPERATION_DURATION).count == len(calls)
    assert metric(semconv.RETRIES).total == len(calls) - 1
    assert metric(semconv.UNPRICED).total == run.result.unpriced == 0
    assert metric(semconv.COST_COUNTER).total == pytest.approx(float(run.result.cost_estimate))


def assert_paid(run: Run, subject: Subject, attempts: Sequence[Ends]) -> None:
    """Each attempt counts with what the server told of it."""
    for call, ends in zip(run.result.calls, attempts, strict=True):
        if ends.paid in ("free", "estimated"):
            assert call.usage is None
        elif ends.error is None:
            assert call.usage in (GOOD.usage, Reply().usage)
        elif ends.paid == "in part":
            assert call.usage == TOLD_EARLY[cast(Column, subject.name)]
            told = pricing.price(
                call.provider,
                call.requested_model,
                Completion(text="", usage=call.usage, model=call.model),
            )
            assert told is not None
            assert call.cost is not None
            assert call.cost >= told.usd
            assert call.price_source == ("estimate" if call.cost > told.usd else told.source)
            continue
        elif run.mode == "stream":
            assert call.usage == TOLD_EARLY[cast(Column, subject.name)]
        else:
            assert call.usage == Reply().usage
        by = {"free": "not-billed", "estimated": "estimate", "priced": "genai-prices"}
        assert call.price_source == by[ends.paid]
