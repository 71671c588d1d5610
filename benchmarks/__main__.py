"""Measure every figure, interleaved with the floor, and print one table."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from pathlib import Path

from . import fake_server
from .figures import FIGURES, Bench, Figure


def main() -> None:
    arguments = _arguments()
    fake_server.allow_many_connections()
    figures: list[Figure] = []
    with fake_server.running() as server, fake_server.running() as sink:
        bench = Bench(
            server,
            sink,
            rounds=2 if arguments.quick else arguments.rounds,
            scale=0.3 if arguments.quick else 1.0,
            say=_progress,
        )
        for name in arguments.only or FIGURES:
            for figure in FIGURES[name](bench):
                _progress("")
                print(_row(figure), flush=True)
                figures.append(figure)
    if arguments.json:
        arguments.json.write_text(json.dumps(_report(figures), indent=2) + "\n")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two short rounds: a first look")
    parser.add_argument("--rounds", type=int, default=7, help="interleaved rounds (default: 7)")
    parser.add_argument("--only", nargs="+", choices=list(FIGURES), help="these groups only")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")
    return parser.parse_args()


def _row(figure: Figure) -> str:
    spread = ""
    if figure.median is not None:
        spread = f"{figure.median:.2f} ({min(figure.values):.2f} to {max(figure.values):.2f})"
    target = "" if figure.target is None else f"<= {figure.target:g}"
    verdict = {None: "", True: "ok", False: "MISSED"}[figure.met]
    row = f"{figure.name:45} {spread:>30} {figure.unit:8} {target:>8}  {verdict:6}  {figure.note}"
    return row.rstrip()


def _report(figures: list[Figure]) -> dict[str, object]:
    return {
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "figures": [
            {
                "name": figure.name,
                "unit": figure.unit,
                "median": figure.median,
                "values": list(figure.values),
                "target": figure.target,
                "met": figure.met,
                "note": figure.note,
            }
            for figure in figures
        ],
    }


def _progress(text: str) -> None:
    """One line that overwrites itself, for whoever watches; nothing in a log."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
