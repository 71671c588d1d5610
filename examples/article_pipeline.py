"""An article in fixed steps: outlined, written, judged, checked from two sides, edited.

Needs OPENAI_API_KEY. Spends money: a few cents.
"""

import asyncio

from pyagent_patterns import Agent, Pipeline, Review
from pyagent_providers import OpenAILLM

mini = OpenAILLM("gpt-4o-mini")

pipeline = Pipeline(
    [
        Agent("outliner", mini, system_prompt="You outline articles in five points."),
        Agent("writer", mini, system_prompt="You write clear, lively prose."),
        Review(
            Agent("critic", mini, system_prompt="You judge texts strictly and fairly."),
            criteria="Every point of the outline is covered. No sentence is longer than 30 words.",
        ),
        [
            Agent("fact_checker", mini, system_prompt="You list the doubtful claims in a text."),
            Agent("stylist", mini, system_prompt="You list what is hard to read in a text."),
        ],
        Agent("editor", OpenAILLM("gpt-4o"), system_prompt="You write the final text."),
    ],
    sees="all",
)


async def main() -> None:
    result = await pipeline.run("A 300-word article on why the sea is salty.")
    print(result.output)
    print()
    for outcome in result.outcomes:
        print(f"{outcome.id}: {outcome.status}, ${outcome.cost or 0:.4f}")
    print(f"cost: ${result.cost_estimate:.4f}")


if __name__ == "__main__":
    asyncio.run(main())
