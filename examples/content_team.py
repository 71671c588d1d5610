"""A content team through LiteLLM: one adapter, the models of three providers.

Needs OPENAI_API_KEY, ANTHROPIC_API_KEY, GEMINI_API_KEY and `pip install "pyagent-sdk[litellm]"`.
Spends money: a few cents.
"""

import asyncio

from pyagent_patterns.base import Agent
from pyagent_patterns.orchestration import OrchestratorWorkers
from pyagent_providers import LiteLLM

team = OrchestratorWorkers(
    orchestrator=Agent(
        "editor",
        LiteLLM("gpt-4o"),
        system_prompt="You are an editor. Plan an article and give each part to a specialist.",
    ),
    workers=[
        Agent(
            "writer",
            LiteLLM("anthropic/claude-haiku-3.5"),
            system_prompt="You write clear, lively prose.",
            description="writes the text",
        ),
        Agent(
            "fact_checker",
            LiteLLM("gemini/gemini-2.5-flash"),
            system_prompt="You check claims and say which are doubtful, and why.",
            description="checks the facts in a text that is already written",
        ),
    ],
)


async def main() -> None:
    result = await team.run("A 300-word article on why the sea is salty, for curious adults.")
    print(result.output)
    print()
    print("workers used:", ", ".join(result.metadata["workers_used"]))
    for model, dollars in result.cost_by("model").items():
        print(f"{model}: ${dollars:.4f}")
    print(f"cost: ${result.cost_estimate:.4f}")


if __name__ == "__main__":
    asyncio.run(main())
