"""What looks like a secret beyond doubt, by the forms in which those who issue them say they are.

Every pattern begins at a literal that few texts have, and takes time in proportion to the text,
whatever that is: what repeats without a bound cannot fail after it, and is not tried again from
within. None needs to see what follows a secret, so that of two in a row neither hides the other.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from itertools import repeat
from operator import contains
from typing import Final


@dataclass(frozen=True, eq=False)
class Rule:
    """A secret of this kind is only where one of the literals is. `before` is what is kept."""

    kind: str
    literals: tuple[str, ...]
    expression: str

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """Compiled for the first text with a literal: most programs meet few of these kinds."""
        return re.compile(self.expression, re.ASCII)


def _rule(kind: str, literals: tuple[str, ...], expression: str) -> Rule:
    if "(?P<before>" not in expression:
        expression += "(?P<before>)"  # at the end: what makes it quick is to begin at the literal
    return Rule(kind, literals, expression)


def _token(prefix: str, rest: str) -> str:
    """A token that begins so where no word goes on."""
    return rf"{prefix}(?<![A-Za-z0-9]{prefix}){rest}"


# At least 16 letters and digits in a row, a digit within the first 32: no word, and no name made
# of words. Then all that may belong to it.
_RANDOM: Final = r"(?=[A-Za-z]{0,31}[0-9])[A-Za-z0-9]{16,}[A-Za-z0-9_-]*+"
_UUID: Final = r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
_QUOTE: Final = r"(?:\\{0,3}[\"'])?"  # also within JSON within JSON
_IS: Final = rf"{_QUOTE}[ ]{{0,4}}(?:[:=]|=>)[ ]{{0,4}}{_QUOTE}"
_LAST: Final = r"[A-Za-z0-9_~+/-]=*+"  # a full stop ends the sentence, not the token
_CREDENTIALS: Final = (
    rf"(?=[A-Za-z._~+/-]{{0,63}}[0-9])[A-Za-z0-9._~+/-]{{15,}}{_LAST}"
    rf"|[A-Za-z0-9._~+/-]{{39,}}{_LAST}"
)

RULES: Final = (
    # RFC 7468, and PGP's and OpenSSH's, which look the same. One that is cut off is its base64.
    _rule(
        "private key",
        ("PRIVATE KEY",),
        r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----"
        r"(?:(?:[^-]++|-(?!----))*+-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----"
        r"|\s*+[A-Za-z0-9+/=\\]{16,}+(?:\s++[A-Za-z0-9+/=\\]{16,}+)*+(?:\s++[A-Za-z0-9+/=\\]++\Z)?+)",
    ),
    # RFC 9110 (Authorization), RFC 7617 (Basic): whatever is sent there, placeholders aside.
    _rule(
        "authorization",
        ("uthorization", "UTHORIZATION"),
        rf"(?P<before>[Aa](?i:uthorization){_IS}(?:[A-Za-z][A-Za-z0-9-]{{0,30}}[ ]{{1,4}})?)"
        rf"(?=[A-Za-z._~+/-]{{0,63}}[=0-9])[A-Za-z0-9._~+/-]{{7,}}{_LAST}",
    ),
    _rule(  # base64 may have no digit
        "authorization",
        ("uthorization", "UTHORIZATION"),
        rf"(?P<before>[Aa](?i:uthorization{_IS}basic)[ ]{{1,4}})"
        r"(?=[A-Za-z+/]{0,63}[a-z][A-Z])[A-Za-z0-9+/]{12,}=*+",
    ),
    # RFC 6750.
    _rule(
        "bearer token",
        ("earer ", "EARER "),
        rf"(?P<before>(?<![A-Za-z])[Bb](?i:earer)[ ]{{1,4}})(?:{_CREDENTIALS})",
    ),
    # RFC 7519: a header that begins with `{"`, and two parts more.
    _rule(
        "JWT",
        ("eyJ",),
        r"eyJ(?:(?<![A-Za-z0-9_-]eyJ)[A-Za-z0-9_-]{8,}+|(?<=[_-]eyJ)[A-Za-z0-9_-]{8,300}+)"
        r"\.[A-Za-z0-9_-]{8,}+\.[A-Za-z0-9_-]*+",
    ),
    # RFC 3986, 3.2.1: the password of `scheme://user:password@host`, but not the word itself.
    _rule(
        "password",
        ("://",),
        r"(?P<before>://[^\s/?#:@\"'<>\[\]{}$\\]{0,64}:)"
        r"(?!(?i:pass|password|passwd|pwd|secret|redacted|x+|\*+|\.+)@)"
        r"[^\s/?#@\"'<>\[\]{}$\\]{1,256}(?=@)",
    ),
    # Query parameters in which keys are sent: RFC 6750, OAuth, AWS's and Google's signatures, SAS.
    _rule(
        "key in a URL",
        ("key=", "ken=", "sig=", "ture=", "ret=", "Key=", "KEY=", "KEN=", "auth="),
        r"(?P<before>[?&](?i:access_token|api[-_]?key|auth|client_secret|id_token|key|refresh_token"
        r"|sig|signature|subscription-key|token|x-amz-signature|x-goog-signature)=)"
        r"(?=[^\s0-9&#\"'<>\\,;)]{0,63}[0-9])[^\s&#\"'<>\\,;)]{15,}[^\s&#\"'<>\\,;).]",
    ),
    # OpenAI, Anthropic, OpenRouter, DeepSeek, Langfuse, LiteLLM, ...: `sk-`, perhaps some words.
    _rule(
        "API key",
        ("sk-",),
        _token(
            "sk-",
            r"(?:(?:proj|svcacct|admin|ant-[a-z]{2,8}[0-9]{2})-[A-Za-z0-9_-]{20,}"
            rf"|lf-{_UUID}|(?:[A-Za-z0-9]{{1,15}}[_-]){{0,4}}{_RANDOM})",
        ),
    ),
    # Stripe: live and test, secret and restricted; webhooks.
    _rule(
        "API key",
        ("k_live_", "k_test_", "whsec_"),
        r"(?:[sr]k_(?:live|test)|whsec)_[A-Za-z0-9+/]{16,}=*+",
    ),
    # Groq, xAI, Perplexity, Replicate, NVIDIA, Together, Fireworks, LangSmith, Tavily, Cerebras.
    _rule(
        "API key",
        ("gsk_", "xai-", "pplx-", "r8_", "nvapi-", "tgp_v1_", "fw_", "lsv2_", "tvly-", "csk-"),
        r"(?<![A-Za-z0-9])(?:gsk_|xai-|pplx-|r8_|nvapi-|tgp_v1_|fw_|lsv2_[a-z]{2}_|tvly-(?:[a-z]{2,8}-)?|csk-)"
        rf"{_RANDOM}",
    ),
    # A header or a setting of that name: Azure, Anthropic, Google and many others.
    _rule(
        "API key",
        ("api", "Api", "API"),
        rf"(?P<before>(?i:api[-_]?key){_IS})"
        rf"(?:{_UUID}|(?=[A-Za-z]{{0,31}}[0-9])[A-Za-z0-9]{{20,}}[A-Za-z0-9_-]*+)",
    ),
    # Google: API keys, OAuth access tokens and client secrets.
    _rule("Google key", ("AIza",), _token("AIza", r"[A-Za-z0-9_-]{35,}")),
    _rule("Google key", ("ya29.",), _token(r"ya29\.", r"[A-Za-z0-9_-]{20,}")),
    _rule("Google key", ("GOCSPX-",), r"GOCSPX-[A-Za-z0-9_-]{20,}"),
    # AWS: access key ids ("IAM identifiers": unique ids of 16 letters and digits), and the secrets.
    _rule("AWS key", ("AKIA", "ASIA"), r"(?<![A-Za-z0-9])A[KS]IA[A-Z2-7]{16,}"),
    _rule(
        "AWS key",
        ("ccess_key", "ccessKey", "ession_token", "essionToken", "CCESS_KEY", "ESSION_TOKEN"),
        rf"(?P<before>(?i:secret_?access_?key|session_?token){_IS})[A-Za-z0-9+/]{{40,}}=*+",
    ),
    # Azure: connection strings of storage and service bus.
    _rule(
        "Azure key",
        ("AccountKey=", "AccessKey="),
        r"(?P<before>(?:AccountKey|SharedAccessKey)=)[A-Za-z0-9+/]{40,}=*+",
    ),
    # GitHub ("Behind GitHub's new authentication token formats"), GitLab ("Token overview").
    _rule(
        "GitHub token",
        ("ghp_", "gho_", "ghu_", "ghs_", "ghr_"),
        r"gh[oprsu]_(?<![A-Za-z0-9]gh[oprsu]_)[A-Za-z0-9_]{36,}",
    ),
    _rule("GitHub token", ("github_pat_",), r"github_pat_[A-Za-z0-9_]{22,}"),
    _rule(
        "GitLab token",
        ("glpat-", "gldt-", "glrt-", "glptt-", "glcbt-", "gloas-", "glsoat-", "glagent-"),
        r"(?<![A-Za-z0-9])gl(?:pat|dt|rt|ptt|cbt|oas|soat|agent)-[A-Za-z0-9_-]{20,}(?:\.[A-Za-z0-9_-]++)*+",
    ),
    # Slack: tokens, and the webhooks whose URL is the secret.
    _rule("Slack token", ("xox", "xapp-"), r"(?<![A-Za-z0-9])(?:xox[a-z]|xapp)-[A-Za-z0-9-]{10,}"),
    _rule(
        "Slack token",
        ("hooks.slack.com",),
        r"(?P<before>hooks\.slack\.com/(?:services|workflows|triggers)/)[A-Za-z0-9/_-]{20,}",
    ),
    _rule("Hugging Face token", ("hf_",), _token("hf_", r"[A-Za-z0-9]{30,}")),
    # Registries and services: npm, PyPI, RubyGems, DigitalOcean, SendGrid, Shopify, Linear, Notion,
    # Docker, Databricks, Vault, Grafana, Postman, Telegram.
    _rule("access token", ("npm_",), _token("npm_", r"[A-Za-z0-9]{36,}")),
    _rule("access token", ("pypi-AgE",), r"pypi-AgE[A-Za-z0-9_-]{50,}"),
    _rule("access token", ("rubygems_",), r"rubygems_[0-9a-f]{48,}"),
    _rule("access token", ("_v1_",), r"(?<![A-Za-z0-9])do[opr]_v1_[0-9a-f]{64,}"),
    _rule(
        "access token", ("SG.",), r"(?<![A-Za-z0-9])SG\.[A-Za-z0-9_-]{20,24}\.[A-Za-z0-9_-]{39,}"
    ),
    _rule("access token", ("shp",), r"(?<![A-Za-z0-9])shp(?:at|ca|pa|ss)_[0-9a-fA-F]{32,}"),
    _rule("access token", ("lin_api_",), r"lin_api_[A-Za-z0-9]{32,}"),
    _rule("access token", ("ntn_",), _token("ntn_", r"[A-Za-z0-9]{40,}")),
    _rule("access token", ("dckr_",), r"dckr_[po]at_[A-Za-z0-9_-]{20,}"),
    _rule("access token", ("dapi",), r"(?<![A-Za-z0-9])dapi[0-9a-f]{32,}(?:-[0-9])?"),
    _rule("access token", ("hvs.", "hvb."), r"(?<![A-Za-z0-9])hv[sb]\.[A-Za-z0-9_-]{24,}"),
    _rule("access token", ("glc_", "glsa_"), r"(?<![A-Za-z0-9])gl(?:c|sa)_[A-Za-z0-9+/_]{32,}=*+"),
    _rule("access token", ("PMAK-",), r"PMAK-[0-9a-f]{24}-[0-9a-f]{34,}"),
    _rule("access token", (":AA",), r"(?<![0-9])[0-9]{8,10}:AA[A-Za-z0-9_-]{33,}"),
)
SHORTEST: Final = 12  # characters: in less there is none of these


def _by_sign() -> dict[str, list[str]]:
    """All literals, by a sign that they have; "" those without one."""
    found: dict[str, list[str]] = {}
    for literal in dict.fromkeys(literal for rule in RULES for literal in rule.literals):
        sign = next((sign for sign in "_=-:" if sign in literal), "")
        found.setdefault(sign, []).append(literal)
    return found


_LITERALS: Final = tuple(_by_sign().items())


def may_have_one(text: str) -> bool:
    """Whether any of the literals is in the text: a sign is looked for first, which is quick."""
    return any(
        sign in text and any(map(contains, repeat(text), literals)) for sign, literals in _LITERALS
    )
