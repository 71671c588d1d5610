"""The viewer on an address, until somebody ends it."""

from __future__ import annotations

import errno
import socket
from dataclasses import replace
from typing import Final
from urllib.parse import quote

import uvicorn

from pyagent_exporters.errors import ExporterError

from .app import application
from .security import Access
from .store import SpanStore

OTLP_PORT: Final = 4318  # where programs send OTLP over HTTP if nobody tells them otherwise

_EVERYWHERE: Final = ("0.0.0.0", "::")  # noqa: S104 - the user has said so
_LAST_ANSWERS: Final = 2  # seconds, for what is being answered at the end


class PortInUseError(ExporterError):
    """Something else listens on the port already."""


class Viewer:
    """A viewer that listens from the moment it is made, and answers while it is served.

    Raises PortInUseError, or an ExporterError, when the address cannot be listened on. Port 0
    takes any free one.
    """

    def __init__(self, store: SpanStore, access: Access, *, source: str) -> None:
        self._listening = _listen(access)
        self.access = replace(access, port=self._listening.getsockname()[1])
        app = application(store, self.access, source=source)
        self._server = uvicorn.Server(
            uvicorn.Config(
                app,
                log_level="warning",
                access_log=False,  # addresses have tokens in them
                server_header=False,
                lifespan="off",
                ws="none",
                timeout_graceful_shutdown=_LAST_ANSWERS,
            )
        )

    @property
    def url(self) -> str:
        """The address of its first page, without the token."""
        host = self.access.host
        if host in _EVERYWHERE:
            host = socket.gethostname()  # what others call this machine, it is to be hoped
        return f"http://{f'[{host}]' if ':' in host else host}:{self.access.port}"

    @property
    def entrance(self) -> str:
        """The address that a browser is let in by: where there is a token, it is in it."""
        token = self.access.token
        return f"{self.url}/" if token is None else f"{self.url}/?token={quote(token, safe='')}"

    async def serve(self) -> None:
        """Answer until `stop`, or Ctrl-C, which is passed on as it would be without a viewer."""
        try:
            await self._server.serve(sockets=[self._listening])
        finally:
            self._listening.close()

    def stop(self) -> None:
        """End `serve`; from any thread."""
        self._server.should_exit = True

    def close(self) -> None:
        """Free the port of a viewer that is not served."""
        self._listening.close()


def _listen(access: Access) -> socket.socket:
    family = socket.AF_INET6 if ":" in access.host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((access.host, access.port))
        listening.listen()  # so that a browser that is quick waits, and is not refused
    except OSError as error:
        listening.close()
        raise _cannot_listen(access, error) from error
    return listening


def _cannot_listen(access: Access, error: OSError) -> ExporterError:
    where = f"the viewer cannot listen on {access.host}:{access.port}"
    if error.errno == errno.EADDRINUSE:
        return PortInUseError(f"{where}: the port is in use; take another, or 0 for any free one")
    return ExporterError(f"{where}: {error.strerror or error}")
