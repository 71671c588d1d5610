"""Metrics on a page for Prometheus to scrape."""

from __future__ import annotations

import errno
import hmac
import threading
from collections.abc import Iterable
from socket import AF_INET, AF_INET6
from socketserver import TCPServer
from typing import Final, cast
from wsgiref.simple_server import WSGIRequestHandler, make_server
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import (
    CollectorRegistry,
    make_wsgi_app,  # pyright: ignore[reportUnknownVariableType]
)
from prometheus_client.exposition import ThreadingWSGIServer

from .errors import ExporterError
from .handle import Pipeline
from .settings import Prometheus

_PATH: Final = "/metrics"


def serve_metrics(provider: MeterProvider, settings: Prometheus) -> tuple[Pipeline, str]:
    """Serve the provider's metrics; also gives the page's URL.

    Raises ExporterError if the address cannot be listened on.
    """
    reader = _Reader()
    page = _Page(settings, reader.registry)
    provider.add_metric_reader(reader)

    def close() -> None:
        page.close()
        provider.remove_metric_reader(reader)

    return Pipeline("Prometheus", reader.force_flush, close, lambda: None), page.url


class _Reader(PrometheusMetricReader):
    """The SDK's reader on a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        super().__init__(registry=self.registry)

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """Nothing to send. The SDK's would queue a copy, and the next page have all twice."""
        return True


class _Page:
    """The HTTP server of one registry."""

    def __init__(self, settings: Prometheus, registry: CollectorRegistry) -> None:
        page = cast(WSGIApplication, make_wsgi_app(registry))
        app = _guarded(page, settings.token)
        server = _ServerV6 if ":" in settings.host else _Server
        try:
            self._server = make_server(
                settings.host, settings.port, app, server, handler_class=_Handler
            )
        except OSError as error:
            raise ExporterError(_cannot_listen(settings, error)) from error
        self._thread = threading.Thread(
            target=self._server.serve_forever,
            kwargs={"poll_interval": 0.2},
            name="pyagent-prometheus",
            daemon=True,
        )
        self._thread.start()
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        self.url = f"http://{host}:{self._server.server_port}{_PATH}"

    def close(self) -> None:
        """Stop answering and free the port."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _guarded(page: WSGIApplication, token: str | None) -> WSGIApplication:
    """The page at its path only, for holders of the token only, one reader at a time."""
    scraping = threading.Lock()  # two at once share the SDK's queue: one gets all twice, one none

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ.get("PATH_INFO") != _PATH:
            return _refuse(start_response, "404 Not Found", f"the metrics are at {_PATH}")
        if token is not None and not _bears(environ, token):
            return _refuse(start_response, "401 Unauthorized", "a bearer token is needed")
        with scraping:
            return page(environ, start_response)

    return app


def _bears(environ: WSGIEnvironment, token: str) -> bool:
    scheme, _, given = str(environ.get("HTTP_AUTHORIZATION", "")).partition(" ")
    # WSGI gives header bytes as latin-1 text.
    same = hmac.compare_digest(given.strip().encode("latin-1", "replace"), token.encode())
    return scheme.lower() == "bearer" and same


def _refuse(start_response: StartResponse, status: str, why: str) -> Iterable[bytes]:
    headers = [("Content-Type", "text/plain; charset=utf-8")]
    if status.startswith("401"):
        headers.append(("WWW-Authenticate", 'Bearer realm="metrics"'))
    start_response(status, headers)
    return [f"{why}\n".encode()]


def _cannot_listen(settings: Prometheus, error: OSError) -> str:
    where = f"Prometheus cannot listen on {settings.host}:{settings.port}"
    if error.errno == errno.EADDRINUSE:
        return (
            f"{where}: the port is in use; take another, or 0 for any free one "
            "(the handle's prometheus_url has it)"
        )
    return f"{where}: {error.strerror or error}"


class _Server(ThreadingWSGIServer):
    address_family = AF_INET

    def server_bind(self) -> None:
        # HTTPServer's own asks the name service who we are, which can hang without a network.
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]
        self.setup_environ()


class _ServerV6(_Server):
    address_family = AF_INET6


class _Handler(WSGIRequestHandler):
    timeout = 10  # seconds; a reader that says nothing must not hold a thread for ever

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing: a scrape every few seconds is no news."""
