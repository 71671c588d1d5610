"""A person in the loop: who sees the plan and its cost, each letter to be sent, and the answer.

At a terminal it asks you. Needs OPENAI_API_KEY. Spends money: less than a cent.
"""

import asyncio

from pyagent_patterns import Agent, DeclinedError, OrchestratorWorkers, ask_human, tool
from pyagent_providers import OpenAILLM

mini = OpenAILLM("gpt-4o-mini")
outbox: list[str] = []


@tool  # what a tool is not said to do, it may do: this one is "unsafe"
async def send_letter(to: str, text: str) -> str:
    """Send a letter."""
    outbox.append(f"To {to}: {text}")
    return "sent"


team = OrchestratorWorkers(
    orchestrator=Agent("head", mini, max_tokens=800),
    workers=[
        Agent("researcher", mini, description="finds out", tools=[ask_human]),
        Agent("secretary", mini, description="writes and sends letters", tools=[send_letter]),
    ],
    approve=["plan", "tools", "answer"],
)


async def main() -> None:
    try:
        result = await team.run("Invite the neighbours to our summer party.")
    except DeclinedError as declined:
        print(declined)
        return
    print(result.output)
    print("\n".join(outbox) or "no letter was sent")
    print(f"expected ${result.plan_estimate:.4f}, was ${result.cost_estimate:.4f}")


if __name__ == "__main__":
    asyncio.run(main())
