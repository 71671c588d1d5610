"""A data-analysis team on two providers: Claude plans and interprets, Gemini does the bulk.

Needs ANTHROPIC_API_KEY, GEMINI_API_KEY and `pip install "pyagent-sdk[anthropic,google]"`.
Spends money: a few cents.
"""

import asyncio

from pyagent_patterns.base import Agent
from pyagent_patterns.orchestration import OrchestratorWorkers
from pyagent_providers import AnthropicLLM, GeminiLLM

claude = AnthropicLLM("claude-sonnet-4-20250514")
gemini = GeminiLLM("gemini-2.5-flash")

team = OrchestratorWorkers(
    orchestrator=Agent(
        "lead_analyst",
        claude,
        system_prompt="You lead a data team. Split a question into analyses.",
    ),
    workers=[
        Agent(
            "data_cleaner",
            gemini,
            system_prompt="You find and describe what is wrong with data, and how to mend it.",
            description="judges the quality of the data and says how to clean it",
        ),
        Agent(
            "statistician",
            claude,
            system_prompt="You choose and explain the right statistical method.",
            description="computes and tests; needs clean data",
        ),
        Agent(
            "visualizer",
            gemini,
            system_prompt="You describe the one chart that shows a finding best.",
            description="designs charts from the statistics",
        ),
    ],
)

TASK = """Sales by month were 12, 15, 14, 18, 240, 21, 19, 25, 24, 28, 27, 31 (thousand USD).
Is there a trend, and how sure can we be?"""


async def main() -> None:
    result = await team.run(TASK)
    print(result.output)
    print()
    print("workers used:", ", ".join(result.metadata["workers_used"]))
    for provider, dollars in result.cost_by("provider").items():
        print(f"{provider}: ${dollars:.4f}")
    print(f"cost: ${result.cost_estimate:.4f}")


if __name__ == "__main__":
    asyncio.run(main())
