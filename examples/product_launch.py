"""A company with two teams: the manager plans for the teams, each lead for its own workers.

Needs OPENAI_API_KEY. Spends money: at most $0.50.
"""

import asyncio

from pyagent_patterns import Agent, Budget, Hierarchical, Team
from pyagent_providers import OpenAILLM

mini = OpenAILLM("gpt-4o-mini")


def agent(name: str, does: str) -> Agent:
    return Agent(name, mini, description=does, max_tokens=1500)


engineering = Team(
    "engineering",
    agent("tech_lead", "leads the engineers"),
    [agent("coder", "writes typed Python"), agent("tester", "writes pytest tests")],
    description="designs and builds software",
)
marketing = Team(
    "marketing",
    agent("marketing_lead", "leads the writers"),
    [agent("copywriter", "writes texts for the web"), agent("analyst", "knows the competition")],
    description="finds out who needs it, and tells them",
)
company = Hierarchical(
    manager=Agent("manager", OpenAILLM("gpt-4o"), max_tokens=2000),
    teams=[engineering, marketing],
    budget=Budget(max_cost_usd=0.50),
)


async def main() -> None:
    result = await company.run("Plan the launch of a password manager for families.")
    print(result.output)
    print()
    for path, dollars in result.cost_by("path").items():
        print(f"{path}: ${dollars:.4f}")
    print(f"cost: ${result.cost_estimate:.4f}")


if __name__ == "__main__":
    asyncio.run(main())
