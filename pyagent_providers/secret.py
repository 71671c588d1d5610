"""Texts from the environment that know the name of their variable, so that it stands for them."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import parse_qsl, urlsplit

from .redaction import hold
from .types import JSONObject, JSONValue


class Secret(str):
    """A text in which something is from the environment; its repr is the `placeholder`.

    The placeholder is the text with `${NAME}` in it, for whoever writes it down.
    """

    placeholder: str

    def __new__(cls, value: str, placeholder: str) -> Secret:
        secret = super().__new__(cls, value)
        secret.placeholder = placeholder
        return secret

    def __repr__(self) -> str:
        return repr(self.placeholder)

    def __getnewargs__(self) -> tuple[str, str]:  # type: ignore[override]
        return str(self), self.placeholder


def placeholder_of(value: str, otherwise: str) -> str:
    """What to write in place of a secret: where it came from, else this variable."""
    return value.placeholder if isinstance(value, Secret) else f"${{{otherwise}}}"


def written_url(url: str, otherwise: str) -> str:
    """A URL as it can be written down: as it is, unless it came from or holds a secret."""
    if isinstance(url, Secret):
        return url.placeholder
    parts = urlsplit(url)
    secret = parts.username or parts.password or parts.query
    return f"${{{otherwise}}}" if secret else url


def hold_keys(adapter: object, base_url: str | None, *keys: str | None, client: object) -> None:
    """Have redacted whatever lets the adapter in, as long as it lives."""
    url = urlsplit(base_url or "")
    in_query = (value for name, value in parse_qsl(url.query) if _NAMES_A_KEY.search(name))
    of_client = (getattr(client, name, None) for name in ("api_key", "auth_token"))
    hold(adapter, *keys, url.password, *in_query, *of_client)


_NAMES_A_KEY: Final = re.compile("key|token|sig|secret|auth|password", re.IGNORECASE)


def settings_of(
    variables: str,
    /,
    *,
    client: object | None,
    base_url: str | None,
    api_key: str | None,
    **others: JSONValue,
) -> JSONObject | None:
    """What an adapter was given, without secrets; None where that is a client of its own.

    `variables` is how the names of those that stand for secrets begin, such as OPENAI.
    """
    if client is not None:
        return None
    settings: dict[str, JSONValue] = {
        "base_url": base_url and written_url(base_url, f"{variables}_BASE_URL"),
        "api_key": api_key and placeholder_of(api_key, f"{variables}_API_KEY"),
        **others,
    }
    return {name: value for name, value in settings.items() if value is not None}
