"""A team as a picture: who works with whom, on what models, with which tools, as Mermaid text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from pyagent_providers.hostile import shown

from .agent import Agent, Member, MemberTool
from .base import Pattern
from .orchestration import (
    Loop,
    OrchestratorWorkers,
    Parallel,
    Pipeline,
    Review,
    Router,
)
from .people import AskHuman
from .tools import Tool

_LONGEST: Final = 48
_PLAIN: Final = frozenset(" .,:_-/()+$…")


def mermaid(team: Pattern) -> str:
    """A Mermaid flowchart of the team.

    Each pattern is a frame around its members, agents with their models are boxes, functions that
    judge or choose hexagons. Tools and MCP servers hang on who uses them by dotted lines, and so
    does whoever stands in when it fails. Names are escaped: no name can draw.
    """
    chart = _Chart()
    chart.node("task", '(["task"])')
    chart.node("answer", '(["answer"])')
    frame = chart.member(team)
    chart.arrow("task", frame)
    chart.arrow(frame, "answer")
    return "\n".join(chart.lines) + "\n"


class _Chart:
    """The lines of a flowchart. A member is drawn anew wherever it works."""

    def __init__(self) -> None:
        self.lines = ["flowchart TD"]
        self._indent = 1
        self._drawn = 0
        self._hung: set[int] = set()

    def node(self, key: str, shape: str) -> str:
        self._line(f"{key}{shape}")
        return key

    def arrow(self, source: str, target: str, label: str = "", *, dotted: bool = False) -> None:
        text = f'|"{_escaped(label)}"|' if label else ""
        self._line(f"{source} {'-.->' if dotted else '-->'}{text} {target}")

    def member(self, member: Member, *, role: str = "") -> str:
        """An agent's box or a pattern's frame; what an arrow can be drawn to."""
        if isinstance(member, Agent):
            return self._agent(member, role)
        if isinstance(member, Pattern):
            return self._pattern(member)
        return self._box(member.name)

    def _agent(self, agent: Agent, role: str) -> str:
        own = agent.stands_for is not None
        models = "a function" if own else ", else ".join(llm.model for llm in agent.llms)
        node = self._box(agent.name, models, role)
        if id(agent) in self._hung:
            return node
        self._hung.add(id(agent))
        for tool in agent.tools:
            if isinstance(tool, MemberTool):
                self.arrow(node, self.member(tool.member), f"tool {tool.name}", dotted=True)
            elif isinstance(tool, AskHuman):
                hung = self._new(f'(["{_escaped(tool.name)}<br/>a person"])')
                self._line(f"{node} -.- {hung}")
            else:
                self._line(f"{node} -.- {self._tool(tool)}")
        for toolset in agent.toolsets:
            server = self._new(f'[("{_escaped(toolset.name)}")]')
            self._line(f"{node} -.- {server}")
        if agent.fallback is not None:
            self.arrow(node, self.member(agent.fallback), "fallback", dotted=True)
        return node

    def _tool(self, tool: Tool) -> str:
        words = f"{tool.name}{', a person approves' if tool.approve else ''}"
        return self._new(f'[/"{_escaped(words)}"/]')

    def _pattern(self, pattern: Pattern) -> str:
        title = pattern.name if pattern.name == pattern.kind else f"{pattern.name}: {pattern.kind}"
        if pattern.approve:
            title += f" (a person approves: {', '.join(sorted(pattern.approve))})"
        frame = self._name()
        self._line(f'subgraph {frame}["{_escaped(title, longest=2 * _LONGEST)}"]')
        self._indent += 1
        self._inside(pattern)
        self._indent -= 1
        self._line("end")
        for stand_in in pattern.degrade_to:
            self.arrow(frame, self.member(stand_in), "degrades to", dotted=True)
        return frame

    def _inside(self, pattern: Pattern) -> None:
        match pattern:
            case OrchestratorWorkers():
                self._planned(pattern)
            case Pipeline():
                before: Sequence[str] = ()
                for stage in pattern.stages:
                    here = [self.member(member) for member in stage.team.values()]
                    self._all(before, here)
                    for gate in stage.gates:
                        here = [self._review(gate, here)]
                    before = here
            case Router():
                self._routes(pattern)
            case Parallel():
                several = [self.member(member) for member in pattern.side_by_side.values()]
                if pattern.merge is not None:
                    self._all(several, [self.member(pattern.merge, role="merges")])
            case Loop():
                self._review(pattern.review, [self.member(pattern.worker)])
            case _:  # one of the application's own
                for member in pattern.members:
                    self.member(member)

    def _planned(self, pattern: OrchestratorWorkers) -> None:
        plan = self.member(pattern.planner.member, role="plans")
        work = [self.member(worker) for worker in pattern.workers.values()]
        self._all([plan], work)
        for review in pattern.reviews:
            if review.of == "outcome":
                work = [self._review(review, work)]
        last = [self.member(pattern.synthesizer, role="writes the answer")]
        self._all(work, last)
        for review in pattern.reviews:
            if review.of == "answer":
                last = [self._review(review, last)]

    def _routes(self, router: Router) -> None:
        if isinstance(router.classifier, Member):
            choice = self.member(router.classifier, role="chooses")
        else:
            rules = "rules" if router.classifier is None else type(router.classifier).__name__
            choice = self._new(f'{{{{"{_escaped(rules)}"}}}}')
        work: list[str] = []
        for route in router.routes.values():
            work.append(self.member(route.member))
            usual = " (default)" if route.name == router.default else ""
            self.arrow(choice, work[-1], f"{route.name}{usual}")
        if router.merge is not None:
            self._all(work, [self.member(router.merge, role="merges")])

    def _review(self, review: Review, work: Sequence[str]) -> str:
        """A gate behind what is judged, and the way back."""
        if isinstance(review.judge, Member):
            gate = self.member(review.judge, role="judges")
        else:
            name = getattr(review.judge, "__name__", type(review.judge).__name__)
            gate = self._new(f'{{{{"{_escaped(name)}"}}}}')
        self._all(work, [gate])
        for one in work:
            self.arrow(gate, one, f"sent back, at most {review.max_rounds}", dotted=True)
        return gate

    def _all(self, sources: Iterable[str], targets: Sequence[str]) -> None:
        for source in sources:
            for target in targets:
                self.arrow(source, target)

    def _box(self, *words: str) -> str:
        label = "<br/>".join(_escaped(text) for text in words if text)
        return self._new(f'["{label}"]')

    def _new(self, shape: str) -> str:
        return self.node(self._name(), shape)

    def _name(self) -> str:
        self._drawn += 1
        return f"n{self._drawn}"

    def _line(self, text: str) -> None:
        self.lines.append("  " * self._indent + text)


def _escaped(text: str, *, longest: int = _LONGEST) -> str:
    """Text that Mermaid shows as it is: nothing of it is markup."""
    text = " ".join(shown(text).split())
    if len(text) > longest:
        text = text[: longest - 1] + "…"
    return "".join(c if c.isalnum() or c in _PLAIN else f"#{ord(c)};" for c in text)
