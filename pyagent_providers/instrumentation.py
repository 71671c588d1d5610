"""One span for one call, also where another instrumentation watches the same SDK.

An application may have the OpenTelemetry project's, Traceloop's or OpenInference's
instrumentation of OpenAI, Anthropic, Google or LiteLLM switched on. Each of these families has a
way to be told that a call is reported already; here it is told so, and only if it is there.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from types import ModuleType
from typing import Final, cast

from opentelemetry import context as otel_context
from opentelemetry.context import Context

_OFFICIAL: Final = "opentelemetry.util.genai.invocation"  # what all of the official ones build on
_TRACELOOP: Final = "opentelemetry.semconv_ai"
_OPENINFERENCE: Final = "openinference.instrumentation"
_OPENINFERENCE_INSTRUMENTORS: Final[Mapping[str, str]] = {
    f"{_OPENINFERENCE}.openai": "OpenAIInstrumentor",
    f"{_OPENINFERENCE}.anthropic": "AnthropicInstrumentor",
    f"{_OPENINFERENCE}.google_genai": "GoogleGenAIInstrumentor",
    f"{_OPENINFERENCE}.litellm": "LiteLLMInstrumentor",
}


def reported_here(context: Context) -> Context:
    """`context`, in which the other instrumentations do not report model calls.

    Asked for every call, so it costs three look-ups where no other instrumentation is loaded.
    """
    loaded = sys.modules.get
    if (official := loaded(_OFFICIAL)) is not None:
        context = _without_official(official, context)
    if (traceloop := loaded(_TRACELOOP)) is not None:
        context = _without_traceloop(traceloop, context)
    if (openinference := loaded(_OPENINFERENCE)) is not None and _openinference_is_on():
        context = _without_openinference(openinference, context)
    return context


def _without_official(module: ModuleType, context: Context) -> Context:
    """A call inside another inference hands its findings to that one's data and is silent."""
    key: str | None = getattr(module, "CLIENT_INFERENCE_CONTEXT_KEY", None)
    data: Callable[[], object] | None = getattr(module, "InferenceData", None)
    if key is None or data is None:  # an edition from before there was a way
        return context
    return otel_context.set_value(key, data(), context)


def _without_traceloop(module: ModuleType, context: Context) -> Context:
    key: str | None = getattr(module, "SUPPRESS_LANGUAGE_MODEL_INSTRUMENTATION_KEY", None)
    return context if key is None else otel_context.set_value(key, True, context)


def _without_openinference(module: ModuleType, context: Context) -> Context:
    """It knows only OpenTelemetry's general switch, which silences HTTP clients' spans as well."""
    suppress = cast(
        "Callable[[], AbstractContextManager[object]] | None",
        getattr(module, "suppress_tracing", None),
    )
    if suppress is None:
        return context
    token = otel_context.attach(context)
    try:
        with suppress():
            return otel_context.get_current()
    finally:
        otel_context.detach(token)


def _openinference_is_on() -> bool:
    for name, instrumentor in _OPENINFERENCE_INSTRUMENTORS.items():
        if (module := sys.modules.get(name)) is not None:
            # Instrumentors are singletons: calling the class gives the one in use.
            singleton = cast("Callable[[], object]", getattr(module, instrumentor))()
            if getattr(singleton, "is_instrumented_by_opentelemetry", False):
                return True
    return False
