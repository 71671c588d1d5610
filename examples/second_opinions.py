"""Three models of three providers answer the same question; a fourth weighs their answers.

Needs OPENAI_API_KEY, ANTHROPIC_API_KEY and GEMINI_API_KEY. Spends money: about two cents.
"""

import asyncio

from pyagent_patterns import Agent, parallel
from pyagent_providers import AnthropicLLM, GeminiLLM, OpenAILLM

opinions = parallel(
    Agent("gpt", OpenAILLM("gpt-4o-mini")),
    Agent("claude", AnthropicLLM("claude-sonnet-4-20250514")),
    Agent("gemini", GeminiLLM("gemini-2.5-flash")),
    merge=Agent(
        "judge",
        OpenAILLM("gpt-4o"),
        system_prompt="Say where the answers agree, where they differ, and who is right.",
    ),
)


async def main() -> None:
    result = await opinions.run("Is it safe to wake a sleepwalker?")
    for outcome in result.outcomes:
        print(f"{outcome.worker}: {outcome.output or outcome.error}")
    print()
    print(result.output)
    for provider, dollars in result.cost_by("provider").items():
        print(f"{provider}: ${dollars:.4f}")


if __name__ == "__main__":
    asyncio.run(main())
