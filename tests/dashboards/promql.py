"""What a PromQL expression names: metrics, and the labels it asks of them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

_TEXT: Final = re.compile(r'"(?:[^"\\]|\\.)*"')
_WINDOW: Final = re.compile(r"\[[^\]]*\]|\boffset\s+\S+")
_GROUPING: Final = re.compile(
    r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)", re.DOTALL
)
_SELECTOR: Final = re.compile(r"(?<![\w:.])([a-zA-Z_:][\w:]*+)(?!\s*\()(?:\{([^}]*)\})?")
_LABEL: Final = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)")
_WORDS: Final = {"and", "or", "unless", "bool", "inf", "nan", "vector"}
# What is there of every series, or of every histogram's, whatever the code emits.
_GIVEN: Final = {"job", "instance", "le"}


@dataclass(frozen=True)
class Named:
    """The labels that are asked of each metric, and those that series are grouped by."""

    metrics: dict[str, set[str]]
    grouped: set[str]

    @classmethod
    def by(cls, promql: str) -> Named:
        promql = _WINDOW.sub("", _TEXT.sub('""', promql))
        grouped = {
            label.strip()
            for labels in _GROUPING.findall(promql)
            for label in labels.split(",")
            if label.strip()
        }
        metrics: dict[str, set[str]] = {}
        for name, matchers in _SELECTOR.findall(_GROUPING.sub("", promql)):
            if name.lower() not in _WORDS:
                metrics.setdefault(name, set()).update(_LABEL.findall(matchers))
        return cls(metrics, grouped - _GIVEN)

    def faults(self, emitted: dict[str, set[str]]) -> list[str]:
        """What is named and not emitted, where `emitted` has each metric's labels."""
        faults = [f"no metric {name}" for name in self.metrics if name not in emitted]
        known = {name: emitted.get(name, set()) for name in self.metrics}
        faults += [
            f"{name} has no label {label}"
            for name, labels in self.metrics.items()
            for label in labels - known[name] - _GIVEN
            if name in emitted
        ]
        there = set[str]().union(*known.values())
        faults += [f"no metric here has the label {label}" for label in self.grouped - there]
        return faults
