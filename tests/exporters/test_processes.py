"""Nothing is lost when a process ends, in whatever way Python still gets a word in, or forks."""

from __future__ import annotations

from collections import Counter

import pytest

from .backends import Protocol, receiver
from .test_configure import run

BEGIN = """
import os, signal, sys, warnings
from pyagent_exporters import Otlp, configure
handle = configure(otlp=Otlp(os.environ["HOW"], endpoint=os.environ["WHERE"]), set_global=False)
tracer = handle.tracer_provider.get_tracer("t")
def span(name):
    tracer.start_span(name, attributes={"process": os.getpid()}).end()
"""


@pytest.mark.parametrize(
    ("ending", "code"),
    [
        ("pass", 0),
        ("sys.exit(3)", 3),
        ("raise RuntimeError('unhandled')", 1),
        ("os.kill(os.getpid(), signal.SIGINT)", -2),  # Ctrl-C
        (
            "signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))\n"
            "os.kill(os.getpid(), signal.SIGTERM)",
            143,
        ),
    ],
)
@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_what_was_not_closed_is_sent_at_the_end(protocol: Protocol, ending: str, code: int) -> None:
    with receiver(protocol) as (kept, endpoint):
        program = f"{BEGIN}\nspan('last words')\n{ending}"
        done = run(program, HOW=protocol, WHERE=endpoint)
    assert done.returncode == code
    assert [span.name for span in kept.spans] == ["last words"]


FORKS = (
    BEGIN
    + """
warnings.simplefilter("ignore", DeprecationWarning)  # of forking with threads, from 3.12 on
span("before")
assert handle.flush()
for _ in range(250):
    span("waiting in the parent")
children = []
for n in range(3):
    child = os.fork()
    if child == 0:
        for _ in range(200):
            span("child")
        assert handle.flush() and handle.export_failures == handle.dropped == 0
        span("child at its end")
        sys.exit(7)
    children.append(child)
for child in children:
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 7, status
span("after")
"""
)


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_forked_workers_send_their_own_spans_each_on_its_own_connection(
    protocol: Protocol,
) -> None:
    with receiver(protocol) as (kept, endpoint):
        done = run(
            FORKS,
            HOW=protocol,
            WHERE=endpoint,
            OTEL_BSP_SCHEDULE_DELAY="60000",  # nothing goes out before it is asked for
            OTEL_BSP_MAX_QUEUE_SIZE="300",
            OTEL_BSP_MAX_EXPORT_BATCH_SIZE="300",
        )
    assert done.returncode == 0, done.stderr
    assert Counter(span.name for span in kept.spans) == {
        "before": 1,
        "waiting in the parent": 250,
        "child": 600,
        "child at its end": 3,
        "after": 1,
    }
    for spans in kept.connections.values():
        assert len({str(span.attributes) for span in spans}) == 1


def test_a_worker_of_multiprocessing_has_to_flush() -> None:
    program = (
        BEGIN
        + """
import multiprocessing
warnings.simplefilter("ignore", DeprecationWarning)
def work(flush):
    span(f"flushed: {flush}")
    if flush:
        handle.flush()
span("before")
handle.flush()
processes = [multiprocessing.get_context("fork").Process(target=work, args=(flush,))
             for flush in (True, False)]
for process in processes:
    process.start()
for process in processes:
    process.join()
    assert process.exitcode == 0
"""
    )
    with receiver("http") as (kept, endpoint):
        done = run(program, HOW="http", WHERE=endpoint, OTEL_BSP_SCHEDULE_DELAY="60000")
    assert done.returncode == 0, done.stderr
    assert [span.name for span in kept.spans] == ["before", "flushed: True"]
