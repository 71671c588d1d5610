"""`pyagent models`: what models cost."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from .options import Json
from .screen import Screen
from .words import line

if TYPE_CHECKING:
    from pyagent_providers.price_list import ListedModel

_NO_EXTRA = 2  # the exit status


def models(
    wanted: Annotated[
        list[str] | None,
        typer.Argument(metavar="[FILTER]", help="Words that are in PROVIDER/MODEL."),
    ] = None,
    json: Json = False,
) -> None:
    """List what models cost, in US dollars per million tokens."""
    screen = Screen()
    try:
        from pyagent_providers.price_list import VERSION, listed
    except ImportError:
        screen.error('prices need genai-prices: pip install "pyagent-sdk[openai]"')
        raise typer.Exit(_NO_EXTRA) from None
    words = " ".join(wanted or ())
    found = listed(words)
    if json:
        screen.json({"genai_prices": VERSION, "models": [model.to_dict() for model in found]})
        return
    if found:
        screen.show(_table(found))
    else:
        screen.note(f"no model with {words!r} has a price there; state one with set_price()")
    screen.note(
        f"\nUS dollars per million tokens, by genai-prices {VERSION}; + long prompts cost more, "
        "old: deprecated",
        "dim",
    )


def _table(models: Sequence[ListedModel]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("provider", "model"):
        table.add_column(name, overflow="fold")
    for name in ("input", "output", "cached", "context"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("adapter", no_wrap=True)
    for model in models:
        context = "" if model.context_tokens is None else f"{model.context_tokens:,}"
        old = " (old)" if model.is_deprecated else ""
        table.add_row(
            Text(line(model.provider)),
            Text(line(model.model) + old, "dim" if old else "bold"),
            _price(model.input) + ("+" if model.is_tiered else ""),
            _price(model.output),
            "" if model.cache_read is None else _price(model.cache_read),
            context,
            model.adapter,
        )
    return table


def _price(usd: Decimal) -> str:
    return f"{usd.normalize():f}"
