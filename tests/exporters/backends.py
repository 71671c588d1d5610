"""OTLP receivers on loopback, http and grpc: one that keeps what it gets, and every bad kind."""

from __future__ import annotations

import gzip
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Literal, cast

import grpc
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2, logs_service_pb2_grpc
from opentelemetry.proto.collector.metrics.v1 import (
    metrics_service_pb2,
    metrics_service_pb2_grpc,
)
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.proto.trace.v1.trace_pb2 import Span

ROOT = Path(__file__).parents[2]
Protocol = Literal["http", "grpc"]


class Kept:
    """What a receiver got."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.metrics: dict[str, Metric] = {}
        self.logs: list[tuple[str, LogRecord]] = []  # each with the name of its logger
        self.resource: dict[str, str] = {}
        self.headers: dict[str, str] = {}
        self.connections: dict[object, list[Span]] = {}  # what came by which

    def add(self, request: object, connection: object) -> object:
        """Keep what an export request has; the answer to it."""
        match request:
            case trace_service_pb2.ExportTraceServiceRequest():
                for resource in request.resource_spans:
                    of = resource.resource.attributes
                    self.resource |= {a.key: a.value.string_value for a in of}
                    for scope in resource.scope_spans:
                        self.spans += scope.spans
                        self.connections.setdefault(connection, []).extend(scope.spans)
                return trace_service_pb2.ExportTraceServiceResponse()
            case metrics_service_pb2.ExportMetricsServiceRequest():
                for resource in request.resource_metrics:
                    for scope in resource.scope_metrics:
                        self.metrics |= {metric.name: metric for metric in scope.metrics}
                return metrics_service_pb2.ExportMetricsServiceResponse()
            case logs_service_pb2.ExportLogsServiceRequest():
                for resource in request.resource_logs:
                    for scope in resource.scope_logs:
                        self.logs += [(scope.scope.name, record) for record in scope.log_records]
                return logs_service_pb2.ExportLogsServiceResponse()
        raise AssertionError(request)

    def Export(self, request, context):  # type: ignore[no-untyped-def]
        """The one method of all three grpc services."""
        self.headers |= {key: str(value) for key, value in context.invocation_metadata()}
        return self.add(request, context.peer())


_REQUESTS = {
    "/v1/traces": trace_service_pb2.ExportTraceServiceRequest,
    "/v1/metrics": metrics_service_pb2.ExportMetricsServiceRequest,
    "/v1/logs": logs_service_pb2.ExportLogsServiceRequest,
}


class HttpReceiver(ThreadingHTTPServer):
    """Answers each path with the status it is told to."""

    def __init__(self, port: int = 0) -> None:
        self.kept = Kept()
        self.status = dict.fromkeys(_REQUESTS, 200)
        super().__init__(("127.0.0.1", port), _Answer)


class _Answer(BaseHTTPRequestHandler):
    server: HttpReceiver
    protocol_version = "HTTP/1.1"  # connections are kept

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers["Content-Encoding"] == "gzip":
            body = gzip.decompress(body)
        status = self.server.status[self.path]
        if status == 200:
            self.server.kept.add(_REQUESTS[self.path].FromString(body), self.client_address)
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def http_receiver(port: int = 0) -> Generator[HttpReceiver]:
    with HttpReceiver(port) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def grpc_receiver(kept: object | None = None, port: int = 0) -> Generator[tuple[Kept, str]]:
    """A receiver on grpc, or any object with its `Export` method as one, and its endpoint."""
    kept = Kept() if kept is None else kept
    with ThreadPoolExecutor(4) as pool:
        server = grpc.server(pool)
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(kept, server)  # type: ignore[arg-type]
        metrics_service_pb2_grpc.add_MetricsServiceServicer_to_server(kept, server)  # type: ignore[arg-type]
        logs_service_pb2_grpc.add_LogsServiceServicer_to_server(kept, server)  # type: ignore[arg-type]
        port = server.add_insecure_port(f"127.0.0.1:{port}")
        server.start()
        try:
            yield kept, f"http://127.0.0.1:{port}"  # type: ignore[misc]
        finally:
            server.stop(None).wait(5)


@contextmanager
def receiver(protocol: Protocol) -> Generator[tuple[Kept, str]]:
    """A good receiver on either protocol."""
    if protocol == "grpc":
        with grpc_receiver() as started:
            yield started
    else:
        with http_receiver() as server:
            yield server.kept, f"http://127.0.0.1:{server.server_port}"


class CollectorProcess:
    """A good receiver in a process of its own, which can be killed."""

    def __init__(self, protocol: Protocol, port: int = 0) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, protocol, str(port)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.endpoint = self._line()

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def got(self, span: str) -> None:
        """Wait until a span of that name has come."""
        while (line := self._line()) != span:
            assert line, "the collector has ended"

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


def _serve(protocol: Protocol, port: int) -> None:
    """Say the endpoint, then the name of each span that comes, until killed."""
    with http_receiver(port) if protocol == "http" else grpc_receiver(port=port) as server:
        if isinstance(server, HttpReceiver):
            kept, endpoint = server.kept, f"http://127.0.0.1:{server.server_port}"
        else:
            kept, endpoint = server
        print(endpoint, flush=True)
        said = 0
        while True:
            for span in kept.spans[said:]:
                print(span.name, flush=True)
                said += 1
            time.sleep(0.01)


# The bad kinds.

Trouble = Literal["down", "silent", "resets", "garbage", "401", "413", "429", "503"]

_GRPC_CODES = {
    "401": grpc.StatusCode.UNAUTHENTICATED,
    "413": grpc.StatusCode.OUT_OF_RANGE,
    "429": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "503": grpc.StatusCode.UNAVAILABLE,
}


class _Refusing:
    def __init__(self, code: grpc.StatusCode) -> None:
        self._code = code

    def Export(self, request, context):  # type: ignore[no-untyped-def]
        context.abort(self._code, "no")


@contextmanager
def bad_receiver(protocol: Protocol, trouble: Trouble) -> Generator[str]:
    """The endpoint of a receiver that takes nothing, in one of the ways there are."""
    if trouble == "down":
        yield f"http://127.0.0.1:{free_port()}"
    elif trouble in ("silent", "resets", "garbage"):
        with _raw(trouble) as port:
            yield f"http://127.0.0.1:{port}"
    elif protocol == "grpc":
        with grpc_receiver(_Refusing(_GRPC_CODES[trouble])) as (_, endpoint):
            yield endpoint
    else:
        with http_receiver() as server:
            server.status = dict.fromkeys(server.status, int(trouble))
            yield f"http://127.0.0.1:{server.server_port}"


@contextmanager
def _raw(trouble: str) -> Generator[int]:
    """A socket that accepts, and then says nothing, breaks the connection, or talks nonsense."""
    done = threading.Event()
    held: list[socket.socket] = []

    def serve(listening: socket.socket) -> None:
        while not done.is_set():
            try:
                connection, _ = listening.accept()
            except TimeoutError:
                continue
            if trouble == "silent":
                held.append(connection)
                continue
            if trouble == "garbage":
                connection.settimeout(0.2)
                try:
                    connection.recv(64)
                    connection.sendall(b"\x00\xffnot a protocol at all\r\n" * 20)
                except OSError:
                    pass
            else:  # closing with this sends RST
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()

    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        listening.settimeout(0.05)
        thread = threading.Thread(target=serve, args=(listening,))
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            done.set()
            thread.join()
            for connection in held:
                connection.close()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


if __name__ == "__main__":
    _serve(cast(Protocol, sys.argv[1]), int(sys.argv[2]))
