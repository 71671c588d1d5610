"""`pyagent ui` and `pyagent report`: runs to look at, in a browser."""

from __future__ import annotations

import os
import signal
import sys
import threading
import webbrowser
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Final

import typer

from pyagent_exporters.errors import ExporterError

from .arguments import duration
from .going_on import carry_out
from .options import Run
from .screen import Screen
from .stores import DB_VARIABLE, DEFAULT_DB, Place
from .words import line, short, span

if TYPE_CHECKING:
    from pyagent_exporters.viewer.security import Access
    from pyagent_exporters.viewer.serving import Viewer
    from pyagent_exporters.viewer.store import SpanStore

_NEEDED: Final = ("starlette", "uvicorn", "jinja2")
_NO_EXTRA: Final = 2  # the exit status
_TERMINATED: Final = 128 + signal.SIGTERM
_TOKEN_VARIABLE: Final = "PYAGENT_UI_TOKEN"  # noqa: S105 - its name
_STDOUT: Final = Path("-")

Url = Annotated[
    str | None, typer.Option("--database-url", metavar="URL", help="A cluster's database instead.")
]


def _age(text: str) -> float:
    seconds = duration(text)
    if not seconds:
        raise typer.BadParameter(f"{text!r} would keep nothing; leave it out to keep everything")
    return seconds


def ui(
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="[FILE]",
            help="A journal (runs.db), a file of traces (trace.jsonl), or another .db, which keeps "
            "what programs send here. Without one that is gone at the end.",
            show_default=False,
        ),
    ] = None,
    host: Annotated[
        str, typer.Option(help="Where to listen. Anything but loopback needs a token.")
    ] = "127.0.0.1",
    port: Annotated[
        int | None,
        typer.Option(
            min=0, max=65535, help="0 takes any free one. Without it 4318, or any that is free."
        ),
    ] = None,
    token: Annotated[
        str | None,
        typer.Option(
            envvar=_TOKEN_VARIABLE,
            help="What readers and senders must show. Beyond loopback one is made up.",
            show_default=False,
        ),
    ] = None,
    no_open: Annotated[bool, typer.Option("--no-open", help="Do not open a browser.")] = False,
    keep: Annotated[
        float | None,
        typer.Option(
            parser=_age,
            metavar="AGE",
            help="Delete runs that ended longer ago, such as 12h, 30d or 4w. Without it all stay.",
            show_default=False,
        ),
    ] = None,
    database_url: Url = None,
) -> None:
    """Look at runs in a browser: what they did, how long it took, what it cost.

    Whatever sends OTLP over HTTP can send its spans here, too. Ctrl-C ends it.
    """
    screen = Screen()
    _must_have_extra(screen)
    if file is not None and database_url is not None:
        raise typer.BadParameter("give a FILE or --database-url, not both")
    source = file if database_url is None else Place(DEFAULT_DB, database_url)
    shown = "what is sent here" if source is None else line(_named(source))

    async def work() -> None:
        from .sources import store_of

        signal.signal(signal.SIGTERM, _terminated)  # so that a temporary store is cleared away
        async with store_of(screen, source, keep=keep) as store:
            viewer = _listening(store, host, port, token, shown)
            _announce(screen, viewer, source, keep)
            if not no_open:
                _open(viewer.entrance)
            await viewer.serve()

    try:
        carry_out(screen, work())
    except ExporterError as error:
        raise typer.BadParameter(str(error)) from None


def report(
    run: Run,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="FILE", help="Where to; - is stdout. Without it run-ID.html."
        ),
    ] = None,
    db: Annotated[
        Path,
        typer.Option(
            "--db",
            envvar=DB_VARIABLE,
            metavar="PATH",
            help="The journal, a file of traces, or a viewer's store.",
        ),
    ] = DEFAULT_DB,
    database_url: Url = None,
) -> None:
    """Write a run as one HTML file that needs nothing else: to keep, or to send to somebody.

    Prompts and answers are in it if they are on record.
    """
    screen = Screen()
    _must_have_extra(screen)
    source = db if database_url is None else Place(DEFAULT_DB, database_url)

    async def work() -> None:
        from pyagent_exporters.viewer import report

        from .sources import trace_of

        trace = await trace_of(screen, source, run)
        page = report.html(trace).encode(errors="replace")
        if out == _STDOUT:
            typer.echo(page, nl=False)
            return
        path = out or Path(f"run-{_file_name(trace.summary.run_id)}.html")
        _write(path, page)
        screen.line(str(path))

    try:
        carry_out(screen, work())
    except ExporterError as error:
        raise typer.BadParameter(str(error)) from None


def _must_have_extra(screen: Screen) -> None:
    if any(find_spec(name) is None for name in _NEEDED):
        screen.error(
            'the viewer needs Starlette, uvicorn and Jinja2: pip install "pyagent-sdk[ui]"'
        )
        raise typer.Exit(_NO_EXTRA)


def _listening(
    store: SpanStore, host: str, port: int | None, token: str | None, source: str
) -> Viewer:
    """A viewer on the port that was asked for; if none was, on the one that senders assume."""
    from pyagent_exporters.settings import is_loopback
    from pyagent_exporters.viewer.security import Access, new_token
    from pyagent_exporters.viewer.serving import OTLP_PORT, PortInUseError, Viewer

    if token is None and not is_loopback(host):
        token = new_token()

    def on(its: int) -> Access:
        return Access(host=host, port=its, token=token)

    if port is not None:
        return Viewer(store, on(port), source=source)
    try:
        return Viewer(store, on(OTLP_PORT), source=source)
    except PortInUseError:
        return Viewer(store, on(0), source=source)


def _announce(
    screen: Screen, viewer: Viewer, source: Path | Place | None, keep: float | None
) -> None:
    screen.line(viewer.entrance)
    if source is None:
        screen.note("spans are kept until this ends; pyagent ui traces.db keeps them in a file")
    if keep is not None:
        screen.note(f"runs that ended more than {span(keep)} ago are deleted")
    screen.note(f"programs send theirs with OTEL_EXPORTER_OTLP_ENDPOINT={viewer.url}")
    if viewer.access.token is not None:
        screen.note('and OTEL_EXPORTER_OTLP_HEADERS="Authorization=Bearer%20TOKEN"')
    screen.note("Ctrl-C ends it")


def _open(url: str) -> None:
    """Open a browser, if there is a screen for one: a text browser would take the terminal."""
    has_screen = sys.platform in ("darwin", "win32") or any(
        os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")
    )
    if has_screen:
        threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()


def _named(source: Path | Place) -> str:
    return source.name if isinstance(source, Path) else source.shown


def _file_name(run_id: str) -> str:
    """A run's id as part of a file's name, whatever is in it."""
    return "".join(c if c.isalnum() or c in "-_" else "_" for c in short(run_id))[:80]


def _write(path: Path, page: bytes) -> None:
    """Raises LookupError if it cannot be written. A new file is the user's own: mode 0600."""
    try:
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(page)
    except OSError as error:
        raise LookupError(f"{str(path)!r} cannot be written: {error.strerror}") from error


def _terminated(number: int, frame: FrameType | None) -> None:
    raise SystemExit(_TERMINATED)
