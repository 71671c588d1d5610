"""Typed functions as tools: the schema a model is told, arguments it writes, the text it gets."""

from __future__ import annotations

import asyncio
import contextvars
import dataclasses
import functools
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field

from pyagent_patterns.tools import (
    Tool,
    ToolArgumentsError,
    ToolError,
    Toolset,
    as_tool,
    check_tool_name,
    tool,
)
from pyagent_providers.types import JSONObject, ToolSpec

if TYPE_CHECKING:
    from nowhere import Unimportable


class Order(Enum):
    NEWEST = "newest"
    OLDEST = "oldest"


class Person(BaseModel):
    """Who it is about."""

    title: str  # a property with the name of a schema's word
    age: int = 30


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int


class Dog(BaseModel):
    kind: Literal["dog"]
    name: str


@tool(effect="read", timeout=5)
async def search(
    query: str,
    limit: Annotated[int, Field(description="how many to give", le=9)] = 5,
    *,
    order: Order = Order.NEWEST,
    by: Person | None = None,
) -> str:
    """Search the archive.

    Words are matched whole.
    """
    return f"{query} {limit} {order} {by}"


# The schema


def test_a_typed_function_becomes_a_schema_without_noise() -> None:
    assert search.spec == ToolSpec(
        "search",
        "Search the archive.\n\nWords are matched whole.",
        {
            "type": "object",
            "properties": {
                "query": {"type": "string"},
                "limit": {
                    "type": "integer",
                    "default": 5,
                    "maximum": 9,
                    "description": "how many to give",
                },
                "order": {"$ref": "#/$defs/Order", "default": "newest"},
                "by": {"anyOf": [{"$ref": "#/$defs/Person"}, {"type": "null"}], "default": None},
            },
            "required": ["query"],
            "additionalProperties": False,
            "$defs": {
                "Order": {"type": "string", "enum": ["newest", "oldest"]},
                "Person": {
                    "type": "object",
                    "description": "Who it is about.",
                    "properties": {
                        "title": {"type": "string"},
                        "age": {"type": "integer", "default": 30},
                    },
                    "required": ["title"],
                },
            },
        },
    )
    assert (search.effect, search.approve, search.timeout) == ("read", False, 5)


def test_a_tagged_union_is_told_in_words_that_every_provider_knows() -> None:
    @tool
    def feed(pet: Annotated[Cat | Dog, Field(discriminator="kind")]) -> str:
        return type(pet).__name__

    told = json.dumps(feed.parameters)
    for word in ("oneOf", "discriminator", "const", "title"):
        assert word not in told
    assert feed.parameters["properties"] == {
        "pet": {"anyOf": [{"$ref": "#/$defs/Cat"}, {"$ref": "#/$defs/Dog"}]}
    }


def test_what_is_named_or_exemplified_with_a_word_of_schemas_stays() -> None:
    @tool
    def find(
        where: title,
        age: Literal["any"] | int,
        like: Annotated[dict[str, str], Field(examples=[{"title": "Dr"}])],
    ) -> str:
        return "found"

    assert find.parameters["$defs"] == {"title": {"type": "string", "enum": ["a"]}}
    assert properties(find) == {
        "where": {"$ref": "#/$defs/title"},
        "age": {"anyOf": [{"type": "string", "enum": ["any"]}, {"type": "integer"}]},
        "like": {
            "type": "object",
            "additionalProperties": {"type": "string"},
            "examples": [{"title": "Dr"}],
        },
    }


class title(Enum):
    A = "a"


def test_a_tool_without_parameters_has_the_schema_of_an_empty_object() -> None:
    @tool
    def now() -> str:
        """Tell the time."""
        return "noon"

    assert now.parameters == {"type": "object", "properties": {}, "additionalProperties": False}


def test_name_and_description_can_be_given_instead_of_the_functions_own() -> None:
    made = tool(name="find-it", description="Find it.", approve=True)(lookup)
    assert (made.name, made.description, made.approve) == ("find-it", "Find it.", True)
    assert (tool(lookup).name, tool(lookup).description) == ("lookup", "Look it up.")


def lookup(word: str) -> str:
    """Look it up."""
    return word


def test_nobody_told_what_running_it_twice_does_so_it_is_unsafe() -> None:
    assert tool(lookup).effect == "unsafe"


def test_a_method_is_a_tool_of_its_object() -> None:
    class Counter:
        def __init__(self) -> None:
            self.total = 0

        def add(self, amount: int) -> int:
            """Add to the total."""
            self.total += amount
            return self.total

    counter = Counter()
    add = as_tool(counter.add)
    assert list(properties(add)) == ["amount"]
    assert called(add, amount=2) == "2"
    assert called(add, amount=3) == "5"


def test_a_wrapped_function_keeps_its_own_parameters() -> None:
    def logged(function: Callable[..., str]) -> Callable[..., str]:
        @functools.wraps(function)
        def wrapper(*args: object, **kwargs: object) -> str:
            return function(*args, **kwargs).upper()

        return wrapper

    wrapped = tool(logged(lookup))
    assert list(properties(wrapped)) == ["word"]
    assert called(wrapped, word="sea") == "SEA"


def test_types_are_looked_up_where_the_function_was_written_not_where_it_was_wrapped() -> None:
    @contextmanager
    def held() -> Iterator[None]:
        yield

    @tool
    @held()  # the wrapper is of the module `contextlib`
    def sort(order: Order) -> str:
        return order.name

    assert called(sort, order="oldest") == "OLDEST"


def test_the_type_of_the_result_need_not_be_importable() -> None:
    @tool
    def give(word: str) -> Unimportable:
        return word

    assert called(give, word="sea") == "sea"


def test_any_name_of_a_parameter_will_do() -> None:
    @tool
    def odd(title: str, schema: int, model_config: int, copy: int, _hidden: int, type: str) -> str:
        return f"{title} {schema} {model_config} {copy} {_hidden} {type}"

    given = {"title": "a", "schema": 1, "model_config": 2, "copy": 3, "_hidden": 4, "type": "b"}
    assert set(properties(odd)) == set(given)
    assert called(odd, **given) == "a 1 2 3 4 b"


def test_a_default_that_is_not_json_stays_the_functions_own_business() -> None:
    nothing = object()

    @tool
    def give(word: str, other: object = nothing) -> str:
        return "its own" if other is nothing else "another"

    assert called(give, word="sea") == "its own"


# What cannot be a tool


def starred(*words: str) -> str: ...
def keywords(**words: str) -> str: ...
def positional(word: str, /) -> str: ...
def untyped(word) -> str: ...  # type: ignore[no-untyped-def]
def callback(then: Callable[[], None]) -> str: ...
def foreign(lock: threading.Lock) -> str: ...
def unresolved(word: Unimportable) -> str: ...
def generator(word: str):  # type: ignore[no-untyped-def]
    yield word


@pytest.mark.parametrize(
    ("function", "why"),
    [
        (starred, r"it takes '\*words"),
        (keywords, r"it takes '\*\*words"),
        (positional, "'word' is positional-only"),
        (untyped, "'word' has no type"),
        (callback, "a type that JSON has no words for: .*CallableSchema"),
        (foreign, "a type that JSON has no words for: .*lock"),
        (unresolved, "'Unimportable' is not defined; define what its types name at the top"),
        (generator, "it is a generator"),
    ],
)
def test_a_function_that_a_model_cannot_call_is_refused_when_the_tool_is_made(
    function: Callable[..., object], why: str
) -> None:
    with pytest.raises(TypeError, match=f"(?s)a model cannot call '{function.__name__}': .*{why}"):
        tool(function)


@pytest.mark.parametrize("candidate", [3, "search", print, object(), Person, None])
def test_what_is_no_typed_function_is_refused_saying_what_would_be(candidate: object) -> None:
    with pytest.raises(TypeError, match="a tool is a typed function, one decorated with @tool"):
        as_tool(candidate)  # type: ignore[arg-type]


def test_a_tool_is_a_tool_already() -> None:
    assert as_tool(search) is search


@pytest.mark.parametrize("name", ["", "a b", "1st", "-a", "a.b", "é", "a" * 65, "a\n"])
def test_a_name_that_not_every_provider_accepts_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="a tool's name has up to 64 letters"):
        check_tool_name(name)
    with pytest.raises(ValueError, match="give it another, with name="):
        Tool(name=name, description="", parameters={}, run=echo)


def test_options_that_mean_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="'search': effect must be 'read', 'idempotent' or"):
        dataclasses.replace(search, effect="harmless")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="'search': timeout must be more than 0 seconds"):
        dataclasses.replace(search, timeout=0)


def test_tools_are_told_apart_by_identity() -> None:
    assert tool(lookup) != tool(lookup)
    assert len({search, search, tool(lookup)}) == 2


# The arguments


def test_arguments_come_as_the_model_wrote_them_once_they_fit() -> None:
    assert search.check('{"query": "sea", "limit": "3"}') == {"query": "sea", "limit": "3"}


@pytest.mark.parametrize("text", ["", "{}"])
def test_a_model_may_write_nothing_for_no_arguments(text: str) -> None:
    assert tool(no_arguments).check(text) == {}


def no_arguments() -> str:
    return "called"


def test_every_fault_of_the_arguments_is_listed() -> None:
    with pytest.raises(ToolArgumentsError) as refused:
        search.check('{"limit": 10, "by": {"age": "old"}, "colour": "red", "order": "best"}')
    assert str(refused.value) == (
        "the arguments do not fit the tool 'search':\n"
        "  - query: missing required argument\n"
        "  - limit: input should be less than or equal to 9\n"
        "  - order: input should be 'newest' or 'oldest'\n"
        "  - by.title: field required\n"
        "  - by.age: input should be a valid integer, unable to parse string as an integer\n"
        "  - colour: there is no such argument"
    )
    assert refused.value.faults[0] == "query: missing required argument"
    assert isinstance(refused.value, ToolError)


def test_thousands_of_faults_are_not_all_listed() -> None:
    @tool
    def total(numbers: list[int]) -> int:
        return sum(numbers)

    with pytest.raises(ToolArgumentsError) as refused:
        total.check(json.dumps({"numbers": ["x"] * 5000}))
    assert len(refused.value.faults) == 21
    assert refused.value.faults[0].startswith("numbers[0]: ")
    assert refused.value.faults[-1] == "and 4980 more"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("query=sea", "this is not JSON"),
        ('{"query": "sea"', "this is not JSON"),
        ('{"query": "sea"} and more', "this is not JSON"),
        ('{"query": NaN}', "this is not JSON"),
        ('{"query": Infinity}', "this is not JSON"),
        ('{"query": "\\ud800"}', "this is not JSON"),
        ('{"query": ' + "[" * 100_000, "this is not JSON"),
        ('{"limit": ' + "1" * 100_000 + "}", "this is not JSON"),
        ('["sea"]', "write them as one JSON object"),
        ("null", "write them as one JSON object"),
        ('"sea"', "write them as one JSON object"),
    ],
    ids=lambda text: text[:30],
)
def test_what_is_no_json_object_is_refused(text: str, why: str) -> None:
    with pytest.raises(ToolArgumentsError, match=why):
        search.check(text)


def test_a_refusal_cannot_move_the_cursor_of_a_terminal() -> None:
    with pytest.raises(ToolArgumentsError) as refused:
        search.check(json.dumps({"query": "sea", "\x1b[2Jcolour": 1}))
    assert "\x1b" not in str(refused.value)


def test_the_function_is_given_python_values() -> None:
    @tool
    def show(when: date, price: Decimal, person: Person, tags: set[str]) -> str:
        return f"{when!r} {price!r} {person!r} {sorted(tags)}"

    given = {"when": "2026-01-02", "price": "1.10", "person": {"title": "Dr"}, "tags": ["b", "a"]}
    assert called(show, **given) == (
        "datetime.date(2026, 1, 2) Decimal('1.10') Person(title='Dr', age=30) ['a', 'b']"
    )


def test_a_strict_model_takes_what_json_can_say() -> None:
    class Booking(BaseModel):
        model_config = ConfigDict(strict=True)
        day: date

    # What its types name stands in a function here, so there are no strings to resolve.
    def book(booking):  # type: ignore[no-untyped-def]
        return booking.day.isoformat()

    book.__annotations__ = {"booking": Booking}
    assert called(tool(book), booking={"day": "2026-01-02"}) == "2026-01-02"


async def test_arguments_are_checked_again_when_it_is_called() -> None:
    with pytest.raises(ToolArgumentsError, match="query: missing required argument"):
        await search.call({})


# The result


@dataclass
class Point:
    x: int
    y: int


@pytest.mark.parametrize(
    ("result", "text"),
    [
        ("as it is", "as it is"),
        ("", ""),
        (None, "done"),
        (3, "3"),
        (True, "true"),
        ([1, "é"], '[1,"é"]'),
        (Point(1, 2), '{"x":1,"y":2}'),
        (Person(title="Dr"), '{"title":"Dr","age":30}'),
        (
            {"day": date(2026, 1, 2), "price": Decimal("1.10")},
            '{"day":"2026-01-02","price":"1.10"}',
        ),
        ([Order.NEWEST], '["newest"]'),
    ],
    ids=repr,
)
def test_the_model_reads_text_as_it_is_and_all_else_as_json(result: object, text: str) -> None:
    @tool
    def give() -> object:
        return result

    assert called(give) == text


async def test_a_result_that_is_not_json_is_the_tools_fault() -> None:
    @tool
    def give() -> object:
        return object()

    with pytest.raises(TypeError, match="tool 'give' returned a object, which cannot be written"):
        await give.call({})


async def test_a_result_can_always_be_stored_and_sent() -> None:
    @tool
    def give() -> str:
        return "half a pair: \ud800"

    (await give.call({})).encode()


# Running it


async def test_an_async_function_runs_in_the_event_loop() -> None:
    @tool
    async def where() -> str:
        return threading.current_thread().name

    assert await where.call({}) == threading.main_thread().name


async def test_a_sync_function_runs_beside_the_event_loop_and_keeps_its_context() -> None:
    who = contextvars.ContextVar("who", default="nobody")
    started, go_on = threading.Event(), threading.Event()

    @tool
    def wait() -> str:
        started.set()
        assert go_on.wait(10)
        return who.get()

    who.set("the caller")
    waiting = asyncio.create_task(wait.call({}))
    await asyncio.to_thread(started.wait, 10)
    go_on.set()  # the loop is free to do this
    assert await waiting == "the caller"


async def test_an_async_function_behind_a_sync_wrapper_is_awaited() -> None:
    async def inner(word: str) -> str:
        return word

    @functools.wraps(inner)
    def wrapper(*args: object, **kwargs: object) -> object:
        return inner(*args, **kwargs)  # type: ignore[arg-type]

    assert await tool(wrapper).call({"word": "sea"}) == "sea"


@pytest.mark.parametrize("error", [ToolError("no such word"), KeyError("word"), OSError("gone")])
async def test_what_a_tool_raises_goes_through(error: Exception) -> None:
    @tool
    def fail() -> str:
        raise error

    @tool
    async def fail_too() -> str:
        raise error

    for failing in (fail, fail_too):
        with pytest.raises(type(error)) as raised:
            await failing.call({})
        assert raised.value is error


async def test_a_stop_iteration_in_a_thread_does_not_hang_the_run() -> None:
    @tool
    def fail() -> str:
        return next(iter(()))

    with pytest.raises(RuntimeError, match="the tool raised StopIteration"):
        await asyncio.wait_for(fail.call({}), 10)


# Tools of another make


async def echo(arguments: JSONObject) -> str:
    return json.dumps(arguments)


async def test_a_tool_can_be_made_of_a_schema_somebody_else_gave() -> None:
    schema: JSONObject = {"type": "object", "properties": {"a": {"type": "integer"}}}
    made = Tool(name="echo", description="Echo.", parameters=schema, run=echo)
    assert made.check('{"a": 1}') == {"a": 1}
    assert await made.call({"a": 1}) == '{"a": 1}'
    strict = dataclasses.replace(made, faults=lambda arguments: ["never right"])
    with pytest.raises(ToolArgumentsError, match="never right"):
        strict.check("{}")


def test_a_toolset_is_known_by_its_shape() -> None:
    class Shelf:
        name = "shelf"

        def open(self) -> None: ...

    assert isinstance(Shelf(), Toolset)
    assert not isinstance(search, Toolset)


def properties(made: Tool) -> dict[str, object]:
    return made.parameters["properties"]  # type: ignore[return-value]


def called(made: Tool, **arguments: object) -> str:
    """The tool's answer to these arguments, written as a model writes them."""
    return asyncio.run(made.call(made.check(json.dumps(arguments))))
