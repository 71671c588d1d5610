"""Who is let in, and what a browser may do with the pages; over real HTTP."""

from __future__ import annotations

import re

import pytest

from pyagent_exporters import ExporterError
from pyagent_exporters.viewer.security import Access, new_token

from .asking import ask
from .conftest import Serve

TOKEN = "a-token-of-the-tests"
PAGES = ("/", "/costs", "/costs.csv", "/costs.json", "/version", "/runs/none", "/compare", "/none")
SPANS = {"Content-Type": "application/json"}


@pytest.mark.parametrize("path", [*PAGES, "/static/viewer.css", "/v1/traces"])
def test_every_answer_has_the_policy_and_the_other_safe_headers(serve: Serve, path: str) -> None:
    told = ask(serve(), path).headers
    assert told["content-security-policy"] == (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )
    assert told["x-content-type-options"] == "nosniff"
    assert told["referrer-policy"] == "no-referrer"
    assert told["x-frame-options"] == "DENY"
    assert told["cross-origin-resource-policy"] == "same-origin"
    assert "server" not in told


@pytest.mark.parametrize("path", PAGES)
def test_what_has_content_in_it_is_not_kept_by_a_browser(serve: Serve, path: str) -> None:
    assert ask(serve(), path).headers["cache-control"] == "no-store"


@pytest.mark.parametrize("host", ["localhost", "localhost:1", "127.0.0.1", "[::1]:80"])
def test_on_loopback_the_names_of_this_machine_are_answered(serve: Serve, host: str) -> None:
    assert ask(serve(), "/", headers={"Host": host}).status == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", "[", "", "10.0.0.1"],
)
@pytest.mark.parametrize("path", ["/", "/version", "/static/viewer.js"])
def test_another_name_for_this_machine_is_refused(serve: Serve, host: str, path: str) -> None:
    answer = ask(serve(), path, headers={"Host": host})
    assert answer.status in (400, 403)  # 400 is uvicorn's, for no Host at all
    assert "evil" not in answer.text


@pytest.mark.parametrize(
    "elsewhere",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_a_page_from_elsewhere_cannot_send_spans(serve: Serve, elsewhere: dict[str, str]) -> None:
    headers = {**SPANS, **elsewhere}
    answer = ask(serve(), "/v1/traces", method="POST", headers=headers, body=b"{}")
    assert answer.status == 403
    assert "message" in answer.json()


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_a_form_cannot_send_spans(serve: Serve, kind: str) -> None:
    headers = {"Content-Type": kind}
    answer = ask(serve(), "/v1/traces", method="POST", headers=headers, body=b"{}")
    assert answer.status == 415


def test_no_other_site_is_given_leave_to_ask(serve: Serve) -> None:
    viewer = serve()
    asked = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    for path in ("/", "/v1/traces"):
        answer = ask(viewer, path, method="OPTIONS", headers=asked)
        assert answer.status == 405
        assert not [name for name in answer.headers if name.startswith("access-control")]


def test_a_program_and_a_page_of_ours_can_send_spans_on_loopback(serve: Serve) -> None:
    viewer = serve()
    for headers in ({}, {"Origin": viewer.url, "Sec-Fetch-Site": "same-origin"}):
        sent = {**SPANS, **headers}
        assert ask(viewer, "/v1/traces", method="POST", headers=sent, body=b"{}").status == 200


# With a token


@pytest.mark.parametrize("path", PAGES)
def test_without_the_token_there_is_nothing_to_see(serve: Serve, path: str) -> None:
    viewer = serve(token=TOKEN)
    for headers in (
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": f"Basic {TOKEN}"},
        {"Authorization": "Bearer"},
        {"Cookie": f"pyagent_viewer_{viewer.access.port}={TOKEN}"},
        {"Cookie": f"pyagent_viewer_{viewer.access.port}="},
    ):
        answer = ask(viewer, path, headers=headers)
        assert answer.status == 401, headers
        assert TOKEN not in answer.text
    assert ask(viewer, f"{path}?token=wrong").status == 401
    assert ask(viewer, f"{path}?token=").status == 401
    assert ask(viewer, f"{path}?token=%ff").status == 401


def test_the_token_in_the_address_is_changed_for_a_cookie_that_scripts_cannot_read(
    serve: Serve,
) -> None:
    viewer = serve(token=TOKEN)
    answer = ask(viewer, f"/costs?by=model&token={TOKEN}&bucket=day")
    assert answer.status == 303
    assert answer.headers["location"] == "/costs?by=model&bucket=day"
    cookie = answer.headers["set-cookie"]
    assert "httponly" in cookie.lower()
    assert "samesite=strict" in cookie.lower()
    assert TOKEN not in cookie
    session = cookie.partition(";")[0]
    assert ask(viewer, "/costs", headers={"Cookie": session}).status == 200
    assert ask(serve(token=TOKEN), "/costs", headers={"Cookie": session}).status == 401


def test_the_way_in_leads_to_no_other_site(serve: Serve) -> None:
    answer = ask(serve(token=TOKEN), f"//evil.example/?token={TOKEN}")
    assert answer.headers["location"].startswith("/evil.example")


def test_a_program_shows_the_token_as_a_bearer(serve: Serve) -> None:
    viewer = serve(token=TOKEN)
    headers = {**SPANS, "Authorization": f"Bearer {TOKEN}"}
    assert ask(viewer, "/v1/traces", method="POST", headers=headers, body=b"{}").status == 200
    refused = ask(viewer, "/v1/traces", method="POST", headers=SPANS, body=b"{}")
    assert refused.status == 401
    assert "message" in refused.json()


def test_the_token_in_the_address_does_not_let_a_sender_in(serve: Serve) -> None:
    path = f"/v1/traces?token={TOKEN}"
    answer = ask(serve(token=TOKEN), path, method="POST", headers=SPANS, body=b"{}")
    assert answer.status == 401


def test_beyond_loopback_a_token_is_demanded() -> None:
    for host in ("0.0.0.0", "::", "192.168.1.5", "viewer.example"):
        with pytest.raises(ExporterError, match="token"):
            Access(host=host)
        assert not Access(host=host, token=new_token()).is_local


@pytest.mark.parametrize("token", ["", " ", "two words", "with\nline", "née"])
def test_a_token_that_no_header_can_carry_is_refused(token: str) -> None:
    with pytest.raises(ExporterError, match="token"):
        Access(token=token)


def test_the_token_is_not_in_what_a_log_would_show() -> None:
    assert TOKEN not in repr(Access(token=TOKEN))


def test_tokens_that_are_made_up_differ_and_are_long() -> None:
    first, second = new_token(), new_token()
    assert first != second
    assert re.fullmatch(r"[\w-]{43}", first)
