"""Two readers that share one MCP server, which fetches web pages; an editor compares their notes.

    python examples/web_reader.py https://example.com https://example.org

Needs OPENAI_API_KEY, and `pip install "pyagent-sdk[openai,mcp]" mcp-server-fetch`. Spends money:
about a cent.
"""

import asyncio
import sys

from pyagent_patterns import Agent, Parallel, parallel
from pyagent_patterns.mcp import MCPServer
from pyagent_providers import OpenAILLM

mini = OpenAILLM("gpt-4o-mini")


def readers(*options: str) -> Parallel:
    """A reader for the facts, one for the tone, and who compares what they say."""
    web = MCPServer.stdio(
        sys.executable, ["-m", "mcp_server_fetch", *options], name="web", allow=["fetch"]
    )
    return parallel(
        Agent("facts", mini, system_prompt="You note what pages state as facts.", mcp=[web]),
        Agent("tone", mini, system_prompt="You note whom pages speak to, and how.", mcp=[web]),
        merge=Agent("editor", mini, system_prompt="You compare pages in five lines."),
        name="reading_room",
    )


async def main() -> None:
    result = await readers().run(f"Compare these pages: {' '.join(sys.argv[1:])}")
    print(result.output)
    for path, usd in result.cost_by("path").items():
        print(f"{path}: ${usd:.4f}")


if __name__ == "__main__":
    asyncio.run(main())
