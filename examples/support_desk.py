"""A support desk: a rule or a small model chooses who answers, and a dear model only if needed.

Needs OPENAI_API_KEY and ANTHROPIC_API_KEY. Spends money: about a cent.
"""

import asyncio

from pyagent_patterns import Agent, Route, Router
from pyagent_providers import AnthropicLLM, OpenAILLM

mini = OpenAILLM("gpt-4o-mini")

desk = Router(
    [
        Route(
            "billing",
            Agent("biller", mini, system_prompt="You explain invoices politely."),
            description="invoices, refunds, prices",
        ),
        Route(
            "technical",
            Agent("engineer", AnthropicLLM("claude-sonnet-4-20250514")),
            description="faults and error messages",
        ),
        Route(
            "security",
            Agent("guard", mini, system_prompt="You never ask for a password."),
            when=lambda task: "password" in task.lower(),
        ),
        Route("other", Agent("generalist", mini), description="anything else"),
    ],
    classifier=Agent("clerk", mini, max_tokens=200),
    default="other",
)


async def main() -> None:
    for question in ("I was charged twice.", "I forgot my password."):
        result = await desk.run(question)
        for route in result.metadata.get("routes", []):
            print(f"{question} -> {route['route']} ({route['reason']})")
        print(result.output)
        print(f"cost: ${result.cost_estimate:.4f}")


if __name__ == "__main__":
    asyncio.run(main())
