"""What one agent is shown, kept within its `max_context_tokens`, by summaries of its own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace

from pyagent_providers.types import Message

from .agent import Agent
from .context import (
    SUMMARY_ROLE,
    Fitted,
    asking_for_summary,
    chunks,
    cut,
    fit,
    fit_conversation,
    fit_turns,
    tokens_in,
    tokens_of,
)
from .errors import AgentError
from .form import Form
from .question import Question
from .session import Conversation, messages_of
from .tools import Tool


class Fitting:
    """For one agent in one scope; `ask` puts a question to an agent there."""

    def __init__(
        self,
        agent: Agent,
        conversation: Conversation,
        ask: Callable[[Agent, str], Awaitable[str]],
    ) -> None:
        self._agent = agent
        self._most = agent.max_context_tokens
        self._conversation = conversation
        self._ask = ask

    async def pieces(
        self,
        pieces: Mapping[str, str],
        build: Callable[[Mapping[str, str]], str],
        form: Form | None,
    ) -> Fitted:
        """Pieces of a prompt that `build` makes of them, for an answer of that form."""
        if self._most is None:
            return Fitted(pieces, {})
        specs = [tool.spec for tool in self._agent.tools if isinstance(tool, Tool)]
        room = self._most - tokens_in(self._agent.system_prompt) - tokens_of((), specs)
        if form is not None:
            room -= tokens_in(form.asked(""))
        said = self._conversation.turns
        if said and self._agent.use_history is not False:  # which has up to half of the room
            room -= min(tokens_of(messages_of(said)), self._most // 2)
        return await fit(pieces, build, room, self._agent.keep_recent, self._summary)

    async def history(self, prompt: str) -> tuple[Message, ...]:
        """The conversation so far, before that prompt."""
        if self._most is None:
            return messages_of(self._conversation.turns)
        room = self._most - tokens_of(self._agent.messages(prompt))
        keep = self._agent.keep_recent
        return await fit_conversation(self._conversation, room, keep, self._summary)

    async def turns(self, question: Question) -> tuple[Message, ...]:
        """What came after a question's prompt."""
        turns = question.turns
        if self._most is None or not turns:
            return turns
        room = self._most - tokens_of(replace(question, turns=()).messages, question.tools)
        return await fit_turns(turns, room, self._agent.keep_recent, self._summary)

    async def _summary(self, text: str, tokens: int) -> str:
        """A text made short, by the agent that is to be shown it."""
        clerk = self._agent.with_system_prompt(SUMMARY_ROLE, use_history=False)
        parts = chunks(text, self._most or 1)
        share = tokens // len(parts)
        asked = [await self._ask(clerk, asking_for_summary(part, share)) for part in parts]
        return cut("\n".join(asked), tokens)


def check_that_it_fits(question: Question) -> None:
    """Raise AgentError, before it is paid for, when more is to be sent than the agent may read."""
    agent, most = question.agent, question.agent.max_context_tokens
    if most is None or (tokens := tokens_of(question.messages, question.tools)) <= most:
        return
    raise AgentError(
        f"it is to be sent about {tokens} tokens, more than its max_context_tokens={most}, and "
        "what can be summarised is not enough; raise it, or give it less to read",
        agent=agent.name,
        model=agent.llm.model,
    )
