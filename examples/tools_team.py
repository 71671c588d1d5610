"""A team whose workers have tools: functions, and another agent that one of them may consult.

Needs OPENAI_API_KEY. Spends money: less than a cent.
"""

import asyncio

from pyagent_patterns import Agent, OrchestratorWorkers, ToolError, tool
from pyagent_patterns.events import Event, ToolEnded
from pyagent_providers import OpenAILLM

mini = OpenAILLM("gpt-4o-mini")
STOCK = {"tent": 3, "stove": 0, "lamp": 12}
PRICES = {"tent": 189.0, "stove": 45.5, "lamp": 19.9}


@tool(effect="read")
async def stock(item: str) -> int:
    """How many of an item are in stock."""
    if item not in STOCK:
        raise ToolError(f"there is no {item!r}; there are {', '.join(STOCK)}")
    return STOCK[item]


@tool(effect="read")
async def total(items: dict[str, int]) -> str:
    """What a basket costs, in euros: the number of each item by its name."""
    return f"{sum(PRICES[item] * count for item, count in items.items()):.2f}"


guide = Agent("guide", mini, description="knows what a camper needs and how to use it")
team = OrchestratorWorkers(
    orchestrator=Agent("manager", mini),
    workers=[
        Agent("storekeeper", mini, description="knows what is in stock", tools=[stock]),
        Agent("seller", mini, description="makes offers", tools=[total, guide.as_tool()]),
    ],
)


def show(event: Event) -> None:
    if isinstance(event, ToolEnded):
        print(f"{event.agent} called {event.tool}: {event.output or event.error}")


async def main() -> None:
    result = await team.run("An offer for two people who camp for the first time.", on_event=show)
    print(result.output)
    print(f"cost: ${result.cost_estimate:.4f}, in {len(result.calls)} calls")


if __name__ == "__main__":
    asyncio.run(main())
