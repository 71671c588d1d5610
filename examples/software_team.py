"""Five specialists build a design on OpenAI models; the reviewer works after those it reviews.

Needs OPENAI_API_KEY and `pip install "pyagent-sdk[openai]"`. Spends money: a few cents.
"""

import asyncio

from pyagent_patterns.base import Agent
from pyagent_patterns.orchestration import OrchestratorWorkers
from pyagent_providers import OpenAILLM

team = OrchestratorWorkers(
    orchestrator=Agent(
        "planner",
        OpenAILLM("gpt-4o"),
        system_prompt="You are a tech lead. Break a request down for your team, as JSON.",
    ),
    workers=[
        Agent(
            "researcher",
            OpenAILLM("gpt-4o-mini"),
            system_prompt="You research libraries and best practice. Be brief and concrete.",
            description="finds the relevant libraries, standards and pitfalls",
        ),
        Agent(
            "coder",
            OpenAILLM("gpt-4o-mini"),
            system_prompt="You write clean, typed Python.",
            description="writes the code",
        ),
        Agent(
            "tester",
            OpenAILLM("gpt-4o-mini"),
            system_prompt="You write pytest tests that find bugs.",
            description="writes tests for the code",
        ),
        Agent(
            "doc_writer",
            OpenAILLM("gpt-4o-mini"),
            system_prompt="You write short, correct documentation with examples.",
            description="documents the code for its users",
        ),
        Agent(
            "reviewer",
            OpenAILLM("gpt-4o"),
            system_prompt="You review code, tests and documentation, and name what must change.",
            description="reviews what the coder, the tester and the doc_writer made",
        ),
    ],
)


async def main() -> None:
    result = await team.run("Build a production-ready async HTTP client with retries and a pool.")
    print(result.output)
    print()
    for assignment in result.metadata["assignments"]:
        print(f"{assignment['id']} {assignment['worker']}: {assignment['subtask']}")
    print("workers used:", ", ".join(result.metadata["workers_used"]))
    print(f"cost: ${result.cost_estimate:.4f}")
    for agent, dollars in result.cost_by("agent").items():
        print(f"  {agent}: ${dollars:.4f}")


if __name__ == "__main__":
    asyncio.run(main())
