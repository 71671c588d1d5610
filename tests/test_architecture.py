"""The house rules that can be read off the imports: they point down, and stay light."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = {
    "pyagent_providers": ROOT,
    "pyagent_patterns": ROOT,
    "pyagent_exporters": ROOT / "exporters",
}

# What a package may import besides itself and the standard library, at module level or not.
SDKS = {"openai", "anthropic", "google", "litellm", "genai_prices"}
TRANSPORTS = {"httpx", "httpx2", "aiohttp"}
CORE = {"opentelemetry", "pydantic", "pydantic_core"}
# What exporters may know of the providers: names, what is safe to show, what metrics may tell.
SHOWING = {"semconv", "hostile", "redaction", "telemetry", "version"}
# Each is an extra, and stands in one place.
EXTRAS = {
    "pyagent_patterns.cli": {"typer", "rich", "click"},
    "pyagent_patterns.form": {"jsonschema"},
    "pyagent_patterns.mcp": {"mcp", "httpx2"},
    "pyagent_patterns.spec": {"yaml", "jinja2"},
    "pyagent_patterns.durable.dbos": {"dbos", "psycopg", "sqlalchemy"},
    "pyagent_patterns.durable.temporal": {"temporalio"},
}


def modules() -> dict[str, Path]:
    found: dict[str, Path] = {}
    for package, root in SOURCES.items():
        for path in sorted((root / package).rglob("*.py")):
            name = ".".join(path.relative_to(root).with_suffix("").parts)
            found[name.removesuffix(".__init__")] = path
    return found


def imports(name: str, path: Path) -> Iterator[str]:
    """Every module that a module imports: inside functions and under TYPE_CHECKING too."""
    known = modules()
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *([base] if base else [])])
            for alias in node.names:
                whole = f"{base}.{alias.name}"
                yield whole if whole in known else base


GRAPH = {name: set(imports(name, path)) for name, path in modules().items()}
OURS = {
    name: {target for target in targets if target in GRAPH} - {name}
    for name, targets in GRAPH.items()
}


def of(package: str) -> dict[str, set[str]]:
    return {n: t for n, t in GRAPH.items() if n == package or n.startswith(package + ".")}


def test_there_is_no_import_cycle() -> None:
    order = list(TopologicalSorter(OURS).static_order())  # raises CycleError
    assert len(order) == len(OURS)


def test_the_providers_know_nothing_above_them() -> None:
    for name, targets in of("pyagent_providers").items():
        above = {t for t in targets if t.startswith(("pyagent_patterns", "pyagent_exporters"))}
        assert not above, (name, above)


def test_the_patterns_do_not_know_the_exporters_nor_any_provider_sdk() -> None:
    for name, targets in of("pyagent_patterns").items():
        roots = {target.split(".")[0] for target in targets}
        extras = {e for place, its in EXTRAS.items() if name.startswith(place) for e in its}
        if name.startswith("pyagent_patterns.cli"):  # the command line is above all of them
            extras.add("pyagent_exporters")
        assert not roots & ((SDKS | TRANSPORTS | {"pyagent_exporters"}) - extras), name
        adapters = {f"pyagent_providers.{sdk}" for sdk in ("openai", "anthropic", "gemini")}
        assert not targets & adapters, name


def test_the_exporters_know_of_ours_only_the_names_and_what_is_safe_to_show() -> None:
    for name, targets in of("pyagent_exporters").items():
        ours = {t for t in targets if t.startswith(("pyagent_patterns", "pyagent_providers"))}
        allowed = {f"pyagent_providers.{part}" for part in SHOWING}
        assert ours <= allowed, (name, ours)


def test_only_the_viewer_needs_a_web_framework() -> None:
    for name, targets in of("pyagent_exporters").items():
        roots = {target.split(".")[0] for target in targets}
        if not name.startswith("pyagent_exporters.viewer"):
            assert not roots & {"starlette", "uvicorn", "jinja2", "markupsafe"}, name


def test_the_libraries_use_the_opentelemetry_api_only() -> None:
    for package in ("pyagent_providers", "pyagent_patterns"):
        for name, targets in of(package).items():
            if name == "pyagent_patterns.testing":  # a test helper: loads the SDK when called
                continue
            sdk = {t for t in targets if t.startswith(("opentelemetry.sdk", "opentelemetry.exp"))}
            assert not sdk, (name, sdk)


def test_the_core_needs_opentelemetry_and_pydantic_only() -> None:
    standard = set(sys.stdlib_module_names)
    for package in ("pyagent_providers", "pyagent_patterns"):
        for name, targets in of(package).items():
            roots = {target.split(".")[0] for target in targets} - standard - set(SOURCES)
            extras = {e for place, its in EXTRAS.items() if name.startswith(place) for e in its}
            assert roots <= CORE | SDKS | TRANSPORTS | extras, (name, roots)


@pytest.mark.parametrize(
    "file", sorted((ROOT / "pyagent_patterns" / "orchestration").glob("*.py")), ids=lambda p: p.stem
)
def test_a_pattern_file_has_no_asyncio_clock_span_journal_or_price_in_it(file: Path) -> None:
    name = f"pyagent_patterns.orchestration.{file.stem}".removesuffix(".__init__")
    forbidden = {
        *("asyncio", "time", "random", "uuid", "datetime", "logging", "threading"),
        "pyagent_patterns.journal",
        "pyagent_patterns.telemetry",
        "pyagent_patterns.ledger",
        "pyagent_patterns.log",
        "pyagent_providers.pricing",
        "pyagent_providers.telemetry",
    }
    targets = GRAPH[name]
    assert not targets & forbidden
    assert not any(target.startswith("opentelemetry") for target in targets)


def test_importing_the_libraries_loads_nothing_heavy() -> None:
    program = (
        "import sys, pyagent_patterns, pyagent_providers\n"
        "heavy = ('openai', 'anthropic', 'google.genai', 'litellm', 'genai_prices',"
        " 'opentelemetry.sdk', 'aiohttp', 'httpx', 'httpx2', 'yaml', 'jinja2', 'jsonschema',"
        " 'rich', 'typer', 'sqlite3', 'dbos', 'temporalio')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    run = [sys.executable, "-c", program]
    loaded = subprocess.run(run, capture_output=True, text=True, check=True, cwd=ROOT)
    assert loaded.stdout.strip() == "[]"


def test_nothing_named_exporters_is_importable() -> None:
    assert not (ROOT / "exporters" / "__init__.py").exists()
