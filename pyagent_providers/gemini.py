"""Google's Gemini models, through the official `google-genai` SDK."""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Generator,
    Hashable,
    Iterable,
    Mapping,
)
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

from .base import LLM
from .clients import (
    KEEPALIVE_SECONDS,
    account_of,
    address_of,
    bounded,
    load_sdk,
    max_connections,
    shared_client,
    ssl_context,
)
from .errors import (
    AuthenticationError,
    ContentRefusedError,
    IncompleteStreamError,
    MalformedResponseError,
    MissingAPIKeyError,
    ProviderError,
)
from .pricing import ModelPrice
from .reading import arguments, arr, count, obj, text
from .redaction import hold
from .secret import hold_keys, settings_of
from .types import Completion, FinishReason, Message, Request, ToolCall, ToolSpec, Usage
from .wire_errors import ErrorMapper, translated

if TYPE_CHECKING:
    import aiohttp
    import google.genai as genai
    from google.genai.errors import APIError
    from google.genai.types import GenerateContentResponse

_DEFAULT_BASE_URL: Final = "https://generativelanguage.googleapis.com"


class GeminiLLM(LLM):
    """A Gemini model behind the Gemini API, or behind Vertex AI with a `client` made for it.

    `api_key` defaults to GOOGLE_API_KEY, then GEMINI_API_KEY; `base_url` to
    GOOGLE_GEMINI_BASE_URL. A base URL that ends in a version, such as `/v1beta`, asks for that
    version of the API; otherwise it is the SDK's choice. `client` is a `genai.Client` of your
    own, never closed here. `timeout` is in seconds, and here it bounds the whole answer, streamed
    ones too: the SDK has no other.
    """

    def __init__(
        self,
        model: str,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        client: genai.Client | None = None,
        timeout: float = 60.0,
        price: ModelPrice | None = None,
    ) -> None:
        self.settings = settings_of(
            "GEMINI", client=client, base_url=base_url, api_key=api_key, timeout=timeout
        )
        self._base_url = base_url or os.environ.get("GOOGLE_GEMINI_BASE_URL") or _DEFAULT_BASE_URL
        # A client of the application's own does not tell where it leads.
        address = address_of(self._base_url) if client is None else (None, None)
        if not timeout > 0:
            raise ValueError(f"timeout must be a number of seconds above 0; got {timeout!r}")
        super().__init__(
            model,
            provider="gcp.vertex_ai" if client is not None and client.vertexai else "gcp.gemini",
            price=price,
            address=address[0],
            port=address[1],
        )
        self._own_client = client
        self._api_key = api_key
        hold_keys(self, self._base_url, api_key, client=client)
        self._timeout = timeout

    def check(self) -> None:
        if self._own_client is None:
            self._load_sdk("google.genai")
            self._key()

    async def _complete(self, request: Request) -> Completion:
        client, errors = await self._endpoint()
        contents, config = self._encode(request)
        with translated(_translate, errors):
            response = await _models(client).generate_content(
                model=self.model,
                contents=contents,
                # The raw answer, because the SDK's own reading warns of every new enum value.
                config={**config, "should_return_http_response": True},
            )
            http = response.sdk_http_response
            partial = _PartialAnswer(_answer_tool(request, self.model))
            partial.add(json.loads((http.body if http is not None else None) or "null"))
        return partial.completion(errors)

    async def _stream(self, request: Request) -> AsyncIterator[str | Completion]:
        client, errors = await self._endpoint()
        contents, config = self._encode(request)
        partial = _PartialAnswer(_answer_tool(request, self.model))
        opened: list[aiohttp.ClientResponse] = []
        try:
            with translated(_translate, errors, partial.so_far):
                with _noting_responses(opened):
                    chunks = await _models(client).generate_content_stream(
                        model=self.model, contents=contents, config=config
                    )
                    chunk = await anext(chunks, None)  # only now is the request sent
                while chunk is not None:
                    read = chunk.model_dump(mode="json", by_alias=True, exclude_none=True)
                    if piece := partial.add(read):
                        yield piece
                    chunk = await anext(chunks, None)
        finally:
            for response in opened:
                response.close()
        yield partial.completion(errors)

    @property
    def account(self) -> Hashable:
        if self._own_client is not None:
            return id(self._own_client)  # how it authenticates is its own affair
        return account_of(self._base_url, self._key())

    def _encode(self, request: Request) -> tuple[list[dict[str, object]], dict[str, object]]:
        return _encode(request, self.model, retries_off=self._own_client is not None)

    async def _endpoint(self) -> tuple[genai.Client, ErrorMapper]:
        if self._own_client is not None:
            return self._own_client, ErrorMapper(self.provider, self.model)
        key = self._key()
        endpoint = await shared_client(
            (GeminiLLM, self._base_url, key, self._timeout),
            lambda: self._new_endpoint(key),
            _Endpoint.close,
        )
        return endpoint.client, ErrorMapper(self.provider, self.model)

    def _new_endpoint(self, key: str) -> _Endpoint:
        genai = self._load_sdk("google.genai")
        base_url, version = _split_version(self._base_url)
        tls = ssl_context(self._load_sdk("httpx2").create_ssl_context)
        session = _new_session()
        client = genai.Client(
            vertexai=False,
            api_key=key,
            http_options=genai.types.HttpOptions(
                base_url=base_url,
                api_version=version,
                timeout=int(self._timeout * 1000),
                retry_options=_NO_RETRIES,
                aiohttp_client=session,
                # One TLS context instead of the four that the SDK would make, at 30 ms each.
                client_args={"verify": tls},
                async_client_args={"verify": tls, "ssl": tls},
            ),
        )
        return _Endpoint(client, session)

    def _load_sdk(self, module: str) -> Any:
        return load_sdk(module, extra="google", provider=self.provider, model=self.model)

    def _key(self) -> str:
        for key in (
            self._api_key,
            os.environ.get("GOOGLE_API_KEY"),
            os.environ.get("GEMINI_API_KEY"),
        ):
            if key:
                hold(self, key)
                return key
        raise MissingAPIKeyError(
            "no API key: set GOOGLE_API_KEY or GEMINI_API_KEY, or pass api_key= or a client=",
            provider=self.provider,
            model=self.model,
        )


# The SDK never retries by itself, not even a connection that broke, only when told so.
_NO_RETRIES: Final[Any] = {"attempts": 1}


@dataclass(frozen=True, slots=True)
class _Endpoint:
    """A client and the session it sends by.

    The session is ours because the SDK's own is never closed in good order at the loop's end,
    and because its class, derived from aiohttp's, makes aiohttp warn.
    """

    client: genai.Client
    session: aiohttp.ClientSession | None

    async def close(self) -> None:
        await self.client.aio.aclose()
        self.client.close()
        if self.session is not None:
            await self.session.close()


class _Models(Protocol):
    """What is used of the SDK's models, whose own types are partly unknown to a type checker."""

    async def generate_content(
        self, *, model: str, contents: object, config: object
    ) -> GenerateContentResponse: ...

    async def generate_content_stream(
        self, *, model: str, contents: object, config: object
    ) -> AsyncGenerator[GenerateContentResponse]: ...


def _models(client: genai.Client) -> _Models:
    return cast(_Models, client.aio.models)


def _new_session() -> aiohttp.ClientSession | None:
    """None without aiohttp: the SDK then falls back to its other transport."""
    try:
        import aiohttp
    except ImportError:
        return None

    async def note(session: object, context: object, end: aiohttp.TraceRequestEndParams) -> None:
        response = end.response
        response.content = cast("aiohttp.StreamReader", _BoundedBody(response.content))
        responses = _responses.get()
        if responses is not None:
            responses.append(response)

    tracing = aiohttp.TraceConfig()
    tracing.on_request_end.append(note)
    connector = aiohttp.TCPConnector(limit=max_connections(), keepalive_timeout=KEEPALIVE_SECONDS)
    return aiohttp.ClientSession(connector=connector, trust_env=True, trace_configs=[tracing])


class _BoundedBody:
    """A body's reader that goes on to LONGEST_ANSWER and no further."""

    def __init__(self, body: aiohttp.StreamReader) -> None:
        self._body = body

    def __getattr__(self, name: str) -> Any:
        return getattr(self._body, name)

    async def read(self) -> bytes:
        return b"".join([piece async for piece in self.iter_any()])

    def iter_any(self) -> AsyncGenerator[bytes]:
        return bounded(self._body.iter_any())


# A stream of the SDK's that is dropped half-way, or that fails, stays open until the garbage
# collector comes by: the SDK's objects refer to each other in a circle. So we note the HTTP
# response beneath, and close that.
_responses: ContextVar[list[aiohttp.ClientResponse] | None] = ContextVar(
    "pyagent_gemini_responses", default=None
)


@contextmanager
def _noting_responses(responses: list[aiohttp.ClientResponse]) -> Generator[None]:
    token = _responses.set(responses)
    try:
        yield
    finally:
        _responses.reset(token)


def _split_version(base_url: str) -> tuple[str, str | None]:
    """`https://host/path/v1beta` -> `https://host/path`, `v1beta`."""
    match = re.fullmatch(r"(.*)/(v\d+(?:(?:alpha|beta)\d*)?)/?", base_url)
    return (match[1], match[2]) if match else (base_url, None)


def _translate(
    error: Exception, errors: ErrorMapper, completion: Completion | None
) -> ProviderError | None:
    from google.genai.errors import APIError

    if isinstance(error, APIError):
        return _map_status(error, errors, completion)
    if isinstance(error, ValueError):  # also how the SDK names a chunk that is not JSON
        return errors.error(MalformedResponseError, "the answer is not JSON", completion=completion)
    return errors.from_transport(error, completion)


def _map_status(
    error: APIError, errors: ErrorMapper, completion: Completion | None
) -> ProviderError:
    """Google gives a code twice, as a number and as a word, and hides the rest in details."""
    body = obj(cast("Any", error).details)
    reported = obj(body.get("error")) or body
    details = [obj(detail) for detail in arr(reported.get("details"))]
    headers: Mapping[str, str] = getattr(cast("Any", error).response, "headers", {})
    for detail in details:
        if delay := text(detail.get("retryDelay")):  # "37s" or "0.5s"
            headers = {"retry-after": delay.removesuffix("s"), **headers}
    described = {"message": reported.get("message"), "status": reported.get("status")}
    mapped = errors.from_status(error.code, described, headers)
    mapped.completion = completion
    if any(detail.get("reason") == "API_KEY_INVALID" for detail in details):  # comes as a 400
        return errors.error(AuthenticationError, mapped.message, status=error.code)
    if _BLOCKED.search(mapped.message):
        return errors.error(ContentRefusedError, mapped.message, status=error.code)
    return mapped


_BLOCKED: Final = re.compile(r"Responsible AI|violates? (?:our|Google's) (?:policies|usage)")


def _encode(
    request: Request, model: str, *, retries_off: bool
) -> tuple[list[dict[str, object]], dict[str, object]]:
    """The SDK's `contents` and `config`, as the dicts that it also takes."""
    config: dict[str, object] = {
        # Left alone, the SDK sends further requests of its own accord.
        "automatic_function_calling": {"disable": True},
        "automatic_continuation": False,
    }
    if retries_off:
        config["http_options"] = {"retry_options": _NO_RETRIES}
    system = [m.content for m in request.messages if m.role == "system"]
    if system:
        config["system_instruction"] = "\n\n".join(system)
    tools = list(request.tools)
    if (schema := request.schema) is not None:
        if answer_tool := _answer_tool(request, model):
            tools.append(ToolSpec(answer_tool, _ANSWER_TOOL, schema.schema))
            config["tool_config"] = {"function_calling_config": {"mode": "ANY"}}
        else:
            config["response_mime_type"] = "application/json"
            config["response_json_schema"] = schema.schema
    if tools:
        functions = [
            {"name": t.name, "description": t.description, "parameters_json_schema": t.parameters}
            for t in tools
        ]
        config["tools"] = [{"function_declarations": functions}]
    sampling = request.sampling
    given = {
        "max_output_tokens": sampling.max_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "stop_sequences": list(sampling.stop) or None,
        "seed": sampling.seed,
    }
    config |= {name: value for name, value in given.items() if value is not None}
    signed = _BEFORE_GEMINI_3.search(model) is None
    return _contents((m for m in request.messages if m.role != "system"), signed=signed), config


# Before Gemini 3, models refuse to have both tools and a schema for their answer, and know no
# signatures. Every other name is taken to be of a later one.
_BEFORE_GEMINI_3: Final = re.compile(r"gemini-(?:[12]\b|pro|flash|exp)")
_ANSWER_TOOL: Final = "Gives the answer. Call this once; what you pass to it is your whole answer."
# What Google has a client send for a call that another model made.
_UNSIGNED: Final = base64.b64encode(b"skip_thought_signature_validator").decode()


def _answer_tool(request: Request, model: str) -> str | None:
    """The name of the tool that carries the answer, if one has to."""
    if request.schema is None or not request.tools or _BEFORE_GEMINI_3.search(model) is None:
        return None
    return request.schema.name


def _contents(messages: Iterable[Message], *, signed: bool) -> list[dict[str, object]]:
    """The results of tools go together in one turn, each under its function's name."""
    contents: list[dict[str, object]] = []
    results: list[dict[str, object]] = []
    names: dict[str | None, str] = {}
    for message in messages:
        if message.role == "tool":
            if not results:
                contents.append({"role": "user", "parts": results})
            response = {
                "id": message.tool_call_id,
                "name": names.get(message.tool_call_id, ""),
                "response": {"result": message.content},
            }
            results.append({"function_response": response})
            continue
        results = []
        names |= {call.id: call.name for call in message.tool_calls}
        role = "model" if message.role == "assistant" else "user"
        contents.append({"role": role, "parts": _parts(message, signed=signed)})
    return contents


def _parts(message: Message, *, signed: bool) -> list[dict[str, object]]:
    """Of calls at once, the first has the signature."""
    parts: list[dict[str, object]] = []
    if message.content or not message.tool_calls:
        parts.append({"text": message.content})
    is_signed = any(call.signature for call in message.tool_calls)
    for n, call in enumerate(message.tool_calls):
        given = arguments(call.arguments)
        part: dict[str, object] = {
            "function_call": {"id": call.id, "name": call.name, "args": given}
        }
        signature = call.signature or ("" if is_signed or n else _UNSIGNED)
        if signed and signature:
            part["thought_signature"] = base64.b64decode(signature, b"-_")  # the SDK writes both
        parts.append(part)
    return parts


_FINISH_REASONS: Final[Mapping[str, FinishReason]] = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    "CONTINUATION": "length",
    "SAFETY": "content_filter",
    "RECITATION": "content_filter",
    "LANGUAGE": "content_filter",
    "BLOCKLIST": "content_filter",
    "PROHIBITED_CONTENT": "content_filter",
    "SPII": "content_filter",
    "ESCALATION": "content_filter",
    "MODEL_ARMOR": "content_filter",
}
_MALFORMED: Final = frozenset({"MALFORMED_FUNCTION_CALL", "MALFORMED_RESPONSE"})


class _PartialAnswer:
    """An answer as its chunks build it up; a whole answer is one chunk."""

    def __init__(self, answer_tool: str | None = None) -> None:
        self._answer_tool = answer_tool
        self._texts: list[str] = []
        self._calls: list[ToolCall] = []
        self._usage: Mapping[str, object] = {}
        self._model = ""
        self._id = ""
        self._stopped = ""
        self._blocked = ""
        self._begun = False

    def add(self, data: object) -> str:
        """Take in one chunk; the piece of the answer's text that it brought, if any."""
        chunk = obj(data)
        self._usage = obj(chunk.get("usageMetadata")) or self._usage  # cumulative
        self._model = text(chunk.get("modelVersion")) or self._model
        self._id = text(chunk.get("responseId")) or self._id
        feedback = obj(chunk.get("promptFeedback"))
        self._blocked = text(feedback.get("blockReason")) or self._blocked
        candidates = arr(chunk.get("candidates"))
        if not candidates:
            return ""
        self._begun = True
        candidate = obj(candidates[0])
        self._stopped = text(candidate.get("finishReason")) or self._stopped
        pieces: list[str] = []
        for part in map(obj, arr(obj(candidate.get("content")).get("parts"))):
            if call := obj(part.get("functionCall")):
                if text(call.get("name")) == self._answer_tool:
                    pieces.append(json.dumps(call.get("args") or {}, ensure_ascii=False))
                else:
                    self._add_call(call, text(part.get("thoughtSignature")))
            elif not part.get("thought"):
                pieces.append(text(part.get("text")))
        piece = "".join(pieces)
        self._texts.append(piece)
        return piece

    def so_far(self) -> Completion | None:
        """What has arrived so far; None if nothing has."""
        return self._completion() if self._begun or self._blocked else None

    def _completion(self) -> Completion:
        finish: FinishReason | None = None
        if self._stopped or self._blocked:
            finish = _FINISH_REASONS.get(self._stopped, "other")
        if self._blocked:
            finish = "content_filter"
        elif finish == "stop" and self._calls:
            finish = "tool_calls"
        return Completion(
            text="".join(self._texts),
            usage=_usage(self._usage) if self._usage else None,
            model=self._model or None,
            finish_reason=finish,
            response_id=self._id or None,
            tool_calls=tuple(self._calls),
        )

    def completion(self, errors: ErrorMapper) -> Completion:
        """The whole answer, if it is one and was not held back."""
        completion = self._completion()
        problem: tuple[type[ProviderError], str] | None = None
        if self._blocked:
            problem = ContentRefusedError, f"the prompt was blocked: {self._blocked}"
        elif completion.finish_reason == "content_filter":
            problem = ContentRefusedError, f"the answer was held back: {self._stopped}"
        elif self._stopped in _MALFORMED:
            problem = MalformedResponseError, f"the model's answer was broken: {self._stopped}"
        elif not self._begun:
            problem = MalformedResponseError, "the answer has no candidates"
        elif completion.finish_reason is None:
            problem = IncompleteStreamError, "the answer ended without a finish reason"
        if problem is None:
            return completion
        kind, message = problem
        code = self._blocked or self._stopped or None
        raise errors.error(kind, message, code=code, completion=completion)

    def _add_call(self, call: Mapping[str, object], signature: str) -> None:
        # Older models give their calls no id; the result must name one.
        id = text(call.get("id")) or f"{self._id or 'call'}-{len(self._calls)}"
        given = json.dumps(call.get("args") or {}, ensure_ascii=False)
        self._calls.append(ToolCall(id, text(call.get("name")), given, signature))


def _usage(usage: Mapping[str, object]) -> Usage:
    """Google counts thinking apart from the answer, and a tool's results apart from the prompt."""
    thoughts = count(usage.get("thoughtsTokenCount"))
    return Usage(
        input_tokens=count(usage.get("promptTokenCount"))
        + count(usage.get("toolUsePromptTokenCount")),
        output_tokens=count(usage.get("candidatesTokenCount")) + thoughts,
        cache_read_tokens=count(usage.get("cachedContentTokenCount")),
        reasoning_tokens=thoughts,
    )
