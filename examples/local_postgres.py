"""A PostgreSQL server of its own on this machine's loopback, gone when its block ends.

    with LocalPostgres() as server:
        cluster = Cluster(server.new_database())

It needs psycopg, and the server's programs (Debian: `postgresql`), found on the PATH or where
Debian keeps them; everything else, data included, is in a temporary folder.
"""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import psycopg
from psycopg import sql

# Ends when its input does, so also when the program that uses the server is killed.
GUARD = '"$@" & read -r _; kill -INT $!; wait $!'  # "fast": it does not wait for the clients
START_TIMEOUT = 60.0  # seconds; one on an idle machine
ROLE = "pyagent"


class LocalPostgresError(Exception):
    """PostgreSQL cannot be started. The message says why and what to do."""


class LocalPostgres:
    """The server, from `with` to the end of the block.

    With `sync=False` a commit does not wait for the disk: right for a test that kills processes
    but not the machine.
    """

    def __init__(self, *, sync: bool = True) -> None:
        self._sync = sync
        self._programs = _programs()
        self._databases = 0
        self._server: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self._directory = Path(tempfile.mkdtemp(prefix="pyagent-postgres-"))
        self._data = self._directory / "data"
        # PostgreSQL refuses to run as root.
        self._user = "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
        try:
            if os.geteuid() == 0:
                shutil.chown(self._directory, self._user)
            self._run("initdb", "-D", str(self._data), "-U", ROLE, "--auth=trust",
                      "--no-sync", "-E", "UTF8", "--locale=C.UTF-8")  # fmt: skip
            self._start()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._remove()

    def new_database(self, *, password: str = "") -> str:
        """The URL of a new, empty database. Any `password` will do."""
        self._databases += 1
        name = f"db{self._databases}"
        with psycopg.connect(self._url("postgres"), autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return self._url(name, password)

    def restart(self) -> None:
        """Stop, cutting every connection, and start again on the same port."""
        self.stop()
        self._start(self.port)

    def stop(self) -> None:
        if self._server is not None:
            self._server.communicate()

    def _url(self, database: str, password: str = "") -> str:
        secret = f":{password}" if password else ""
        return f"postgresql://{ROLE}{secret}@127.0.0.1:{self.port}/{database}"

    def _remove(self) -> None:
        self.stop()
        shutil.rmtree(self._directory, ignore_errors=True)

    def _start(self, port: int | None = None) -> None:
        self.port = port or _free_port()
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": "",
            "max_connections": 500,
            "fsync": "on" if self._sync else "off",
            "synchronous_commit": "on" if self._sync else "off",
            "logging_collector": "off",
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with (self._directory / "log").open("ab") as log:
            self._server = subprocess.Popen(
                ["sh", "-c", GUARD, "sh", self._programs / "postgres", "-D", self._data, *options],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,  # Ctrl-C is for the program that uses it
                **self._as_user(),
            )
        deadline = time.monotonic() + START_TIMEOUT
        while not self._answers():
            if self._server.poll() is not None or time.monotonic() > deadline:
                log_text = (self._directory / "log").read_text(errors="replace")
                raise LocalPostgresError(f"PostgreSQL did not start:\n{log_text[-2000:]}")
            time.sleep(0.05)

    def _answers(self) -> bool:
        ready = [self._programs / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        return subprocess.run(ready).returncode == 0

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [self._programs / program, *arguments],
            capture_output=True,
            text=True,
            cwd="/",
            **self._as_user(),
        )
        if done.returncode:
            raise LocalPostgresError(f"{program} failed: {done.stderr.strip()}")

    def _as_user(self) -> dict[str, object]:
        if os.geteuid() != 0:
            return {}
        return {"user": self._user, "group": pwd.getpwnam(self._user).pw_gid, "extra_groups": []}


def _programs() -> Path:
    """The folder of the newest server on this machine."""
    on_path = shutil.which("postgres")
    found = [Path(on_path).resolve().parent] if on_path else []
    debian = Path("/usr/lib/postgresql").glob("*/bin")
    found += sorted(debian, key=lambda path: int(path.parent.name.split(".")[0]), reverse=True)
    for folder in found:
        if all((folder / name).exists() for name in ("postgres", "initdb", "pg_isready")):
            return folder
    raise LocalPostgresError("PostgreSQL is not installed: sudo apt-get install postgresql")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
