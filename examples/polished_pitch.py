"""A pitch that is written, judged and written again until the critic is content.

Needs OPENAI_API_KEY. Spends money: a few cents at most.
"""

import asyncio

from pyagent_patterns import Agent, loop
from pyagent_providers import OpenAILLM

pitch = loop(
    Agent("writer", OpenAILLM("gpt-4o-mini"), system_prompt="You write pitches."),
    Agent("critic", OpenAILLM("gpt-4o"), system_prompt="You are hard to please, and say why."),
    criteria="One paragraph; one concrete number; no superlatives.",
    max_rounds=3,
)


async def main() -> None:
    result = await pitch.run("Pitch a password manager for families.")
    print(result.output)
    print()
    judged = sum(call.phase == "evaluate" for call in result.calls)
    print(f"{result.status} after {judged} judgements, ${result.cost_estimate:.4f}")


if __name__ == "__main__":
    asyncio.run(main())
