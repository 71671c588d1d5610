"""Who may ask the viewer for anything, and what a browser may do with what it gets."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol
from urllib.parse import urlencode, urlsplit

from starlette.datastructures import Headers, MutableHeaders, QueryParams
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pyagent_exporters.errors import ExporterError
from pyagent_exporters.settings import is_loopback

# No inline script or style, nothing from elsewhere, in nobody's frame.
CONTENT_SECURITY_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
SECURITY_HEADERS: Final[Mapping[str, str]] = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
NOT_KEPT: Final = "no-store"  # pages have prompts and answers in them

_PUBLIC: Final = "/static/"  # files of the package, which a page that refuses needs too
_SAFE_METHODS: Final = ("GET", "HEAD", "OPTIONS")
_BYTES: Final = 32  # of a token that is made up


@dataclass(frozen=True, slots=True)
class Access:
    """Where the viewer listens, and what its readers must show: a token, or nothing on loopback.

    Raises ExporterError for a token that no header could carry, and beyond loopback for none.
    """

    host: str = "127.0.0.1"
    port: int = 0
    token: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise ExporterError(f"the viewer's port {self.port} is not between 0 and 65535")
        if self.token is not None and not _is_sendable(self.token):
            raise ExporterError(
                "the viewer's token must be visible ASCII characters, without spaces, and not empty"
            )
        if self.token is None and not self.is_local:
            raise ExporterError(
                f"the viewer on {self.host!r} can be reached from other machines and shows prompts "
                "and costs: give a token, or stay on '127.0.0.1'"
            )

    @property
    def is_local(self) -> bool:
        """Whether only this machine reaches it."""
        return is_loopback(self.host)


def new_token() -> str:
    """A token that cannot be guessed."""
    return secrets.token_urlsafe(_BYTES)


class Refuse(Protocol):
    """How a request is turned down, in the form that who asks understands."""

    def __call__(self, request: Request, status: int, why: str) -> Response: ...


class Guard:
    """Stands before the whole application; what it lets through is answered with safe headers."""

    def __init__(self, app: ASGIApp, access: Access, refuse: Refuse) -> None:
        self._app = app
        self._access = access
        self._refuse = refuse
        self._session = new_token()  # what the cookie holds: not the token, and gone with us
        self._cookie = f"pyagent_viewer_{access.port}"  # browsers share cookies between ports

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            answer = self._turned_down(Request(scope)) or self._app
            await answer(scope, receive, _with_headers(send))

    def _turned_down(self, request: Request) -> Response | None:
        """The answer to a request that does not get through."""
        hosts = request.headers.getlist("host")
        if len(hosts) != 1 or (self._access.is_local and not _names_loopback(hosts[0])):
            # Another site's name that was made to point here: its scripts could read everything.
            return self._refuse(
                request, 403, "this viewer is asked for by the name of this machine only"
            )
        if request.method not in _SAFE_METHODS and _is_from_elsewhere(request):
            return self._refuse(request, 403, "another site's pages may not send anything here")
        return self._without_token(request)

    def _without_token(self, request: Request) -> Response | None:
        token = self._access.token
        if token is None or request.url.path.startswith(_PUBLIC):
            return None
        given = request.query_params.get("token")
        if given is not None and request.method == "GET":
            if not _same(given, token):
                return self._refuse(request, 401, "the token in this address is not the viewer's")
            return self._welcome(request)
        if _same(request.cookies.get(self._cookie, ""), self._session):
            return None
        if _same(_bearer(request.headers), token):
            return None
        return self._refuse(
            request, 401, "open the address that `pyagent ui` printed, which has the token in it"
        )

    def _welcome(self, request: Request) -> Response:
        """To the same page without the token, which the browser has no need of from now on."""
        path = "/" + request.url.path.lstrip("/")  # "//host" would be another site
        answer = RedirectResponse(_without(path, request.query_params), 303)
        answer.set_cookie(
            self._cookie,
            self._session,
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
        )
        return answer


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers.update(SECURITY_HEADERS)
            headers.setdefault("Cache-Control", NOT_KEPT)
        await send(message)

    return sending


def _names_loopback(host: str) -> bool:
    try:
        return is_loopback(urlsplit(f"//{host}").hostname or "")
    except ValueError:  # "[::1"
        return False


def _is_from_elsewhere(request: Request) -> bool:
    """Whether a browser sends this for another site's page; programs say nothing of the kind."""
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return True
    origin = request.headers.get("origin")
    return origin is not None and origin != f"{request.url.scheme}://{request.headers['host']}"


def _bearer(headers: Headers) -> str:
    scheme, _, given = headers.get("authorization", "").partition(" ")
    return given.strip() if scheme.lower() == "bearer" else ""


def _without(path: str, params: QueryParams) -> str:
    rest = [(name, value) for name, value in params.multi_items() if name != "token"]
    return f"{path}?{urlencode(rest)}" if rest else path


def _same(given: str, wanted: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "replace"), wanted.encode())


def _is_sendable(token: str) -> bool:
    return bool(token) and token.isascii() and token.isprintable() and " " not in token
