"""An analyst that reads files in one folder, runs code in a sandbox and follows a house skill.

The folder is made here; the code has no network and sees nothing of this machine but the system's
programs and that folder. Needs OPENAI_API_KEY, and Debian's bubblewrap. Spends money: about a cent.
"""

import asyncio
import tempfile
from pathlib import Path

from pyagent_patterns import Agent, Decision, Pipeline, Review, Wanted
from pyagent_patterns.sandbox import Bubblewrap, python_tool
from pyagent_patterns.skills import Skills
from pyagent_patterns.workspace import Workspace
from pyagent_providers import OpenAILLM

SKILL = """---
name: figures
description: How this house reports figures. Read it before you report any.
---
Round to whole euros, and say how many rows a figure is from.
"""


def office(folder: Path) -> Pipeline:
    """An analyst with the folder's files, and a check of what it says."""
    (folder / "skills" / "figures").mkdir(parents=True)
    (folder / "skills" / "figures" / "SKILL.md").write_text(SKILL)
    (folder / "data").mkdir(mode=0o755)
    (folder / "data" / "sales.csv").write_text("month,euros\njan,1200.40\nfeb,980.10\n")
    skills = Skills(folder / "skills")
    analyst = Agent(
        "analyst",
        OpenAILLM("gpt-4o"),
        system_prompt=f"You answer questions about the files you have.\n\n{skills.summary}",
        tools=[
            *skills.tools(),
            *Workspace(folder / "data", writable=False).tools(),
            python_tool(Bubblewrap()),
        ],
    )
    has_figures = Review(lambda answer: any(sign.isdigit() for sign in answer))
    return Pipeline([analyst, has_figures], name="office", approve=["tools"])


async def allow(wanted: Wanted) -> Decision:
    """Here everything is allowed; an application would ask somebody."""
    print(f"allowed: {wanted.text.splitlines()[0]}")
    return Decision(approved=True)


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        result = await office(Path(folder)).run("What did we sell per month?", human=allow)
    print(result.output)
    print(f"cost: ${result.cost_estimate:.4f}")


if __name__ == "__main__":
    asyncio.run(main())
