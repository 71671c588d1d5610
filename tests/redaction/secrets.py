"""Secrets of every kind that is known, made up here: none was ever anybody's."""

from __future__ import annotations

import base64
import random
import string
from collections.abc import Callable

ALNUM = string.ascii_letters + string.digits
URL_SAFE = ALNUM + "-_"
HEX = "abcdef0123456789"

_chance = random.Random(7)


def some(length: int, of: str = ALNUM) -> str:
    """Random characters, at least one of them a digit among the first few."""
    return "7" + "".join(_chance.choice(of) for _ in range(length - 1))


def jwt() -> str:
    header = base64.urlsafe_b64encode(b'{"alg":"HS256","typ":"JWT"}').decode().rstrip("=")
    return f"{header}.{some(60, URL_SAFE)}.{some(43, URL_SAFE)}"


def pem(kind: str = "RSA ", headers: str = "", newline: str = "\n") -> str:
    body = newline.join(some(64, ALNUM + "+/") for _ in range(4))
    around = f"{kind}PRIVATE KEY-----"
    return f"-----BEGIN {around}{newline}{headers}{body}{newline}-----END {around}"


# What is to become of each: all of it is a secret, but what stands in the pair's first part.
SECRETS: dict[str, Callable[[], tuple[str, str]]] = {
    "openai": lambda: ("", f"sk-{some(20)}T3BlbkFJ{some(20)}"),
    "openai project": lambda: ("", f"sk-proj-{some(120, URL_SAFE)}"),
    "openai service account": lambda: ("", f"sk-svcacct-{some(80, URL_SAFE)}"),
    "anthropic": lambda: ("", f"sk-ant-api03-{some(95, URL_SAFE)}"),
    "openrouter": lambda: ("", f"sk-or-v1-{some(64, HEX)}"),
    "deepseek": lambda: ("", f"sk-{some(32, HEX)}"),
    "langfuse": lambda: ("", "sk-lf-7c0d1e9a-3b52-4f4e-9a61-0d6cfb1f2a77"),
    "groq": lambda: ("", f"gsk_{some(52)}"),
    "xai": lambda: ("", f"xai-{some(80)}"),
    "google": lambda: ("", f"AIza{some(35, URL_SAFE)}"),
    "google oauth": lambda: ("", f"ya29.{some(60, URL_SAFE)}"),
    "aws id": lambda: ("", f"AKIA{''.join(_chance.choice('ABCDEFGH234567') for _ in range(16))}"),
    "aws secret": lambda: ("aws_secret_access_key = ", some(40, ALNUM + "+/")),
    "azure": lambda: ("AccountKey=", f"{some(86, ALNUM + '+/')}=="),
    "github": lambda: ("", f"ghp_{some(36)}"),
    "github fine-grained": lambda: ("", f"github_pat_{some(22)}_{some(59)}"),
    "gitlab": lambda: ("", f"glpat-{some(20, URL_SAFE)}"),
    "slack": lambda: ("", f"xoxb-{some(12, string.digits)}-{some(24)}"),
    "slack webhook": lambda: ("https://hooks.slack.com/services/", f"T7{some(8)}/B7/{some(24)}"),
    "hugging face": lambda: ("", f"hf_{some(34)}"),
    "npm": lambda: ("", f"npm_{some(36)}"),
    "stripe": lambda: ("", f"sk_live_{some(24)}"),
    "google client secret": lambda: ("", f"GOCSPX-{some(28, URL_SAFE)}"),
    "pypi": lambda: ("", f"pypi-AgE{some(120, URL_SAFE)}"),
    "rubygems": lambda: ("", f"rubygems_{some(48, HEX)}"),
    "digitalocean": lambda: ("", f"dop_v1_{some(64, HEX)}"),
    "sendgrid": lambda: ("", f"SG.{some(22, URL_SAFE)}.{some(43, URL_SAFE)}"),
    "shopify": lambda: ("", f"shpat_{some(32, HEX)}"),
    "linear": lambda: ("", f"lin_api_{some(40)}"),
    "notion": lambda: ("", f"ntn_{some(46)}"),
    "docker": lambda: ("", f"dckr_pat_{some(27, URL_SAFE)}"),
    "databricks": lambda: ("", f"dapi{some(32, HEX)}"),
    "vault": lambda: ("", f"hvs.{some(90, URL_SAFE)}"),
    "grafana": lambda: ("", f"glsa_{some(32)}_{some(8, HEX)}"),
    "postman": lambda: ("", f"PMAK-{some(24, HEX)}-{some(34, HEX)}"),
    "telegram": lambda: ("", f"{some(9, string.digits)}:AA{some(33, URL_SAFE)}"),
    "jwt": lambda: ("", jwt()),
    "bearer": lambda: ("Bearer ", f"{some(29, URL_SAFE + '._~+/')}7"),
    "bearer, lower case": lambda: ("with the bearer ", some(30)),
    "basic": lambda: ("Authorization: Basic ", base64.b64encode(some(12).encode()).decode()),
    "basic without a digit": lambda: ("Authorization: Basic ", "QWxhZGRpbjpvcGVuYWJi"),
    "authorization in json": lambda: ('"Authorization": "Token ', some(12)),
    "api key header": lambda: ("api-key: ", some(32, HEX)),
    "api key in escaped json": lambda: ('{\\"x-api-key\\": \\"', some(40)),
    "url password": lambda: ("postgres://ann:", "hunter-2!"),
    "url query": lambda: ("https://a.example/v1?version=7&access_token=", some(24, URL_SAFE)),
    "pem": lambda: ("", pem()),
    "pem, encrypted": lambda: ("", pem(headers="Proc-Type: 4,ENCRYPTED\nDEK-Info: AES,7\n\n")),
    "pem in json": lambda: ("", pem("OPENSSH ", newline="\\n")),
    "pem cut off": lambda: ("", pem()[:200]),
}


def standing(kind: str) -> tuple[str, str]:
    """A text with a secret of that kind in it, and the secret."""
    before, secret = SECRETS[kind]()
    after = "@db/x" if kind == "url password" else ""
    return f"{before}{secret}{after}", secret
