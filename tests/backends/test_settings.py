"""The settings that docs/observability gives for each backend send what that backend asks for.

The variables are read from the pages; only the host is another, so that no vendor hears of it.
"""

from __future__ import annotations

import asyncio
import gzip
import re
import shlex
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from pyagent_exporters import configure
from pyagent_providers.telemetry import Telemetry, using
from tests.wire import WireServer

from . import crew

DOCS = Path(__file__).parents[2] / "docs/observability"
KEY = "a2V5OnNlY3JldA=="  # what stands in the place of a <placeholder>


@dataclass(frozen=True)
class Wanted:
    """What a vendor's documentation asks of the requests that these settings send."""

    page: str
    nth: int
    traces: str
    headers: Mapping[str, str] = field(default_factory=dict)
    metrics: str | None = None
    gzip: bool = False
    resource: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.page}-{self.nth}"


TEAM = {"service.name": "my-team"}
PROJECT = {"openinference.project.name": "my-team"}
AGENTS = {"dd_llmobs_enabled": "true"}

WANTED = [
    Wanted("jaeger", 0, "/v1/traces", resource=TEAM),
    Wanted("tempo", 0, "/v1/traces", resource=TEAM),
    Wanted(
        "tempo",
        1,
        "/otlp/v1/traces",
        {"authorization": f"Basic {KEY}"},
        metrics="/otlp/v1/metrics",
        gzip=True,
        resource=TEAM,
    ),
    Wanted("phoenix", 0, "/v1/traces", resource=PROJECT),
    Wanted(
        "phoenix",
        1,
        f"/s/{KEY}/v1/traces",
        {"authorization": f"Bearer {KEY}"},
        resource=PROJECT,
    ),
    Wanted(
        "langfuse",
        0,
        "/api/public/otel/v1/traces",
        {"authorization": f"Basic {KEY}", "x-langfuse-ingestion-version": "4"},
        gzip=True,
    ),
    Wanted(
        "logfire",
        0,
        "/v1/traces",
        {"authorization": KEY},
        metrics="/v1/metrics",
        gzip=True,
        resource=TEAM,
    ),
    Wanted(
        "datadog",
        0,
        "/v1/traces",
        {"dd-api-key": KEY, "dd-otlp-source": "llmobs"},
        gzip=True,
        resource=TEAM | AGENTS,
    ),
    Wanted("datadog", 1, "/v1/traces", resource=TEAM | AGENTS),
]


@dataclass
class Vendor:
    """Takes whatever is posted to it."""

    host: str
    requests: list[tuple[str, Mapping[str, str], bytes]] = field(default_factory=list)

    def bodies(self, path: str) -> list[bytes]:
        return [body for at, _, body in self.requests if at == path]


@pytest.fixture
def vendor() -> Iterator[Vendor]:
    class Take(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            body = self.rfile.read(int(headers["content-length"]))
            if headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            vendor.requests.append((self.path, headers, body))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Take) as server:
        vendor = Vendor(f"127.0.0.1:{server.server_address[1]}")
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield vendor
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("wanted", WANTED, ids=str)
def test_a_pages_settings_send_the_whole_trace_where_the_vendor_wants_it(
    wanted: Wanted, vendor: Vendor, provider: WireServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OTEL_METRICS_EXPORTER")  # it is the page's to say
    for name, value in settings(wanted.page)[wanted.nth].items():
        if name.endswith("_ENDPOINT"):
            url = urlsplit(value)
            value = f"http://{vendor.host}{url.path}"
        monkeypatch.setenv(name, value)
    asyncio.run(run(provider))

    paths = {wanted.traces} | ({wanted.metrics} if wanted.metrics else set())
    assert {path for path, _, _ in vendor.requests} == paths
    for _, headers, _ in vendor.requests:
        assert {name: headers.get(name) for name in wanted.headers} == wanted.headers
        assert headers["content-type"] == "application/x-protobuf"
        assert (headers.get("content-encoding") == "gzip") == wanted.gzip
    names: list[str] = []
    for body in vendor.bodies(wanted.traces):
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            told = {pair.key: pair.value.string_value for pair in resource.resource.attributes}
            assert told.items() >= wanted.resource.items()
            names += [span.name for scope in resource.scope_spans for span in scope.spans]
    assert len(names) == len(crew.TREE.splitlines())
    assert "pyagent.pattern.orchestrator_workers" in names
    if wanted.metrics:
        assert ExportMetricsServiceRequest.FromString(vendor.bodies(wanted.metrics)[0])


def test_each_block_of_settings_on_the_pages_is_tested() -> None:
    pages = {page.stem for page in DOCS.glob("*.md")} - METRICS_PAGES
    told = {f"{page}-{nth}" for page in pages for nth, _ in enumerate(settings(page))}
    assert told == {str(wanted) for wanted in WANTED}


METRICS_PAGES = {"prometheus", "grafana"}  # see tests/dashboards


async def run(provider: WireServer) -> None:
    with configure(set_global=False) as handle:
        sent_from = Telemetry(
            tracer_provider=handle.tracer_provider, meter_provider=handle.meter_provider
        )
        provider.respond(crew.Shop())
        with using(sent_from):
            await crew.team(provider).run("Write two lines on the hats we have.")
        assert handle.flush(10)


def settings(page: str) -> Sequence[Mapping[str, str]]:
    """The variables of each block of a page that sets where telemetry goes."""
    blocks = re.findall(r"^```sh\n(.*?)^```", (DOCS / f"{page}.md").read_text(), re.S | re.M)
    return [
        dict(_read(line) for line in block.splitlines())
        for block in blocks
        if block.startswith("export OTEL_EXPORTER_OTLP")
    ]


def _read(line: str) -> tuple[str, str]:
    export, assignment = shlex.split(re.sub(r"<[^>]+>", KEY, line))
    assert export == "export"
    name, value = assignment.split("=", 1)
    return name, value
