"""Writes the dashboards' JSON: python exporters/grafana/generate.py [directory]."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import costs
import providers
import runs

DASHBOARDS = {"runs": runs.DASHBOARD, "costs": costs.DASHBOARD, "providers": providers.DASHBOARD}


def main(directory: Path) -> None:
    directory.mkdir(exist_ok=True)
    for name, dashboard in DASHBOARDS.items():
        text = json.dumps(dashboard, indent=2, ensure_ascii=False)
        (directory / f"{name}.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "dashboards")
