"""Tools and rules of the teams in this folder."""

from pyagent_patterns import Verdict, tool

_PRICES = {"salt": "0.40", "sugar": "0.90"}


@tool(effect="read")
def price_of(product: str) -> str:
    """What a product costs in the shop, in US dollars per kilogram."""
    return _PRICES.get(product.lower(), "not sold here")


def is_about_money(task: str) -> bool:
    """Whether a question is surely one for the billing team."""
    return any(word in task.lower() for word in ("invoice", "refund", "charged twice"))


def is_short(answer: str) -> bool | Verdict:
    """Accepts answers that a customer reads to the end."""
    words = len(answer.split())
    return words <= 200 or Verdict(accepted=False, reasons=f"it has {words} words; 200 at most")
