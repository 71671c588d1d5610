"""A provider in a process of its own that fails at random and keeps its own books.

`python -m tests.soak.faulty_server` prints its base URL, serves until its input is closed, and
then prints its books as JSON: a `Books`.
"""

from __future__ import annotations

import itertools
import json
import random
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import cast

from pyagent_providers.types import Usage
from tests.wire import (
    CHAT,
    CorruptChunk,
    Disconnect,
    EndEarly,
    Failure,
    RawBody,
    Reply,
    Stall,
    Step,
    WireServer,
)
from tests.wire.server import Sent
from tests.wire.team import team_responder


@dataclass
class Books:
    """What was asked and what is charged for.

    `answers` has the tokens, in and out, of each answer that went out whole, by its number, which
    is also its id; `cut_off` counts those that are charged for and were not told whole.
    """

    requests: int = 0
    answers: dict[int, tuple[int, int]] = field(default_factory=dict)
    cut_off: int = 0
    refused: int = 0


# Of a thousand requests so many go wrong, in each way.
FAULTS: tuple[tuple[int, Callable[[], Step]], ...] = (
    (4, lambda: Failure("rate_limit", headers={"retry-after": "0"})),
    (25, lambda: Failure("server")),
    (10, lambda: Failure("overloaded")),
    (15, lambda: Disconnect()),
    (10, lambda: Disconnect(reset=True)),
    (15, lambda: Disconnect(after_text=True)),
    (15, lambda: EndEarly()),
    (10, lambda: CorruptChunk()),
    (5, lambda: RawBody("", content_type="text/html")),
    (2, lambda: Stall()),
    (2, lambda: Stall(after_text=True)),
)
SLOW = 20  # of a thousand answers


class FaultyProvider:
    """Plays a team, as `team_responder` does, and now and then something else."""

    def __init__(self, seed: int) -> None:
        self.books = Books()
        self._numbers = itertools.count(1)
        self._random = random.Random(seed)
        self._team = team_responder()

    def respond(self, sent: Sent) -> Step:
        self.books.requests += 1
        chance = self._random.randrange(1000)
        for share, fault in FAULTS:
            chance -= share
            if chance < 0:
                return self._fail(fault())
        return self._answer(sent)

    def _fail(self, step: Step) -> Step:
        if isinstance(step, Failure):
            self.books.refused += 1
        else:
            self.books.cut_off += 1
        return step

    def _answer(self, sent: Sent) -> Step:
        number, random = next(self._numbers), self._random
        usage = Usage(input_tokens=random.randrange(50, 150), output_tokens=random.randrange(20))
        self.books.answers[number] = (usage.input_tokens, usage.output_tokens)
        return replace(
            cast(Reply, self._team(sent)),
            usage=usage,
            response_id=str(number),
            delay=random.uniform(0.05, 0.5) if random.randrange(1000) < SLOW else 0,
        )


def serve() -> None:
    provider = FaultyProvider(seed=4)
    with WireServer() as server:

        def respond(sent: Sent) -> Step:
            server.requests.clear()  # nobody looks at them, and they are many
            return provider.respond(sent)

        server.respond(respond)
        print(server.base_url(CHAT), flush=True)
        sys.stdin.read()
    print(json.dumps(asdict(provider.books)))


if __name__ == "__main__":
    serve()
