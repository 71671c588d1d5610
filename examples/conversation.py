"""A conversation over several runs, and over several starts of this program.

Needs OPENAI_API_KEY. Spends money: less than a cent for each question.
"""

import asyncio
import sys

from pyagent_patterns import Agent, Route, Router
from pyagent_patterns.durable import FileSession
from pyagent_providers import OpenAILLM

mini = OpenAILLM("gpt-4o-mini")
desk = Router(
    [
        Route("travel", Agent("guide", mini, max_context_tokens=4000), description="where to go"),
        Route("food", Agent("cook", mini, max_context_tokens=4000), description="what to eat"),
    ],
    classifier=Agent("clerk", mini),
    default="travel",
)


async def main(questions: list[str]) -> None:
    session = FileSession("conversation.db", "me")
    for question in questions:
        result = await desk.run(question, session=session)
        print(f"> {question}\n{result.output}\n")
    print(f"{len(await session.turns())} turns so far")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:] or ["Where is it warm in March?", "And what do they eat there?"]))
