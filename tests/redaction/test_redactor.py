"""Secrets are taken out of a text, all of them, quickly, and nothing else is."""

from __future__ import annotations

import gc
import json
import logging
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyagent_providers import OpenAILLM, looks_secret, redaction
from pyagent_providers.redaction import (
    Filter,
    hold,
    redact,
    redacted,
    redacted_attributes,
    redacted_json,
)

from .secrets import SECRETS, standing

PROSE = "The task-force asked for a sketch, basically; the bearer of it was authorised to. "
AROUND = (
    "{}",
    "the key is {}, keep it",
    "It is {}. It is so.",
    '{{"a": "{}"}}',
    "x\n{}\nand so on",
    "a_{}",
    "a-{}",
)
PIECES = ("sk-", "A1b2C3d4E5f6G7h8", "-", " ", "eyJ", ".", "Bearer ", ":", "://", "@", "api_key=",
          "[redacted: ", "]", "JWT", "=", "AKIA", "AAAA2222BBBB3333", "\n",
          "-----BEGIN PRIVATE KEY-----")  # fmt: skip


class Owner:
    """Something that has a key."""


@pytest.fixture(autouse=True)
def own_patterns() -> Iterator[None]:
    before = redaction._own.given
    yield
    redaction._own.given = before


def test_every_rule_can_be_looked_for():
    for rule in looks_secret.RULES:  # each is compiled for the first text with its literal
        assert "before" in rule.pattern.groupindex


def test_each_rule_finds_one_of_the_secrets_here() -> None:
    texts = [standing(kind)[0] for kind in SECRETS]
    for rule in looks_secret.RULES:
        assert any(rule.pattern.search(text) for text in texts), rule


@pytest.mark.parametrize("kind", SECRETS)
@pytest.mark.parametrize("around", AROUND)
def test_a_secret_of_every_kind_is_taken_out_and_what_is_around_it_stays(kind: str, around: str):
    text, secret = standing(kind)
    found = redacted(around.format(text))
    assert secret not in found
    assert found.count("[redacted: ") == 1
    kept = re.escape(around.format(text.replace(secret, "\0"))).replace(
        "\0", r"\[redacted: [\w ]+\]"
    )
    assert re.fullmatch(kept, found)


@pytest.mark.parametrize("kind", SECRETS)
def test_nothing_of_a_secret_is_left_where_two_stand_in_a_row(kind: str):
    text, secret = standing(kind)
    other, also = standing("anthropic")
    found = redacted(f"{text} {other} {text}")
    assert secret not in found
    assert also not in found


@pytest.mark.parametrize("kind", SECRETS)
def test_json_with_a_secret_in_it_is_json_afterwards(kind: str):
    text, secret = standing(kind)
    found = json.loads(redacted(json.dumps({"a": text, "b": 1})))
    assert found["b"] == 1
    assert secret not in found["a"]
    assert "[redacted: " in found["a"]


@pytest.mark.parametrize(
    "text",
    [
        PROSE,
        "a sk-learn-style-pipeline-with-many-words-v2 and task-1-of-the-second-kind",
        "Bearer of bad news; Bearer <token>; Bearer YOUR_API_KEY; Authorization: Bearer $TOKEN",
        "Authorization: required, see RFC 9110; authorization=None",
        "api_key=os.environ['OPENAI_API_KEY'], api_key=settings.openai_key, api_key: ${KEY}",
        "https://example.com:8080/a@b and http://[::1]:80/ and git@github.com:org/repo.git",
        "postgres://user:password@localhost/db, redis://:****@cache, amqp://{user}:{secret}@mq",
        "https://maps.example/?key=name&token=the-quick-brown-fox",
        "-----BEGIN PRIVATE KEY----- is how it begins, and -----BEGIN CERTIFICATE----- is not one",
        "commit 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "id 7c0d1e9a-3b52-4f4e-9a61-0d6cfb1f2a77, AKIA, AIza, eyJ, ghp_, hf_hub, xoxb",
        "akia-like words, SHOUTED_CONSTANTS_WITH_2_DIGITS, and 0.00012345678901234567 dollars",
    ],
)
def test_prose_and_code_are_left_alone(text: str):
    assert redacted(text) is text


def test_the_code_and_the_documents_of_this_project_and_of_python_are_left_alone():
    root = Path(__file__).parents[2]
    files = [*root.glob("*.md"), *root.glob("docs/**/*.md"), *root.glob("pyagent_*/**/*.py")]
    files += [*root.glob("examples/*.py"), *Path(json.__file__).parents[1].glob("*.py")]
    texts = {path: path.read_text(errors="replace") for path in files}
    assert len(texts) > 300
    changed = {path.name for path, text in texts.items() if redacted(text) is not text}
    assert changed - {"redaction.md", "ssl.py"} == set()


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=300))
def test_a_text_without_a_secret_is_itself(text: str):
    assert redacted(text) is text


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(PIECES)))
def test_what_is_redacted_once_is_not_redacted_further(parts: list[str]):
    once = redacted("".join(parts))
    assert redacted(once) == once


def test_what_looks_like_a_mark_hides_nothing():
    text, secret = standing("anthropic")
    assert secret not in redacted(f"[redacted: {text}] [redacted: API key]")


@pytest.mark.parametrize(
    "piece",
    ["a", "-", "sk-", "sk-a-", "sk-a1-", "eyJ", "eyJ.", "-eyJ", "eyJaaaaaaaaa.", "://", "://a:",
     ":", "@", "Bearer ", "bearer aaaa", "Authorization: ", "Authorization:   a ", "?key=a",
     "&token=aaaaaaa", "-----BEGIN PRIVATE KEY-----", "-----BEGIN PRIVATE KEY-----\n",
     "-----BEGIN ", "api_key = 'a", "PRIVATE KEY", "ghp_", "github_pat_a", "xoxb-", "AIza-", "SG.",
     "[redacted: ", "hooks.slack.com", "[redacted: JWT]", "secretaccesskey"],
)  # fmt: skip
def test_hostile_text_takes_no_longer_than_its_length_allows(piece: str):
    """Were any pattern quadratic, a megabyte would take hours; a quarter is to take a quarter."""

    def seconds(size: int) -> float:
        text = piece * (size // len(piece)) + "x"
        began = time.process_time()
        redacted(text)
        return time.process_time() - began

    assert seconds(1_000_000) < 20
    assert seconds(1_000_000) < 0.5 + 16 * seconds(250_000)


def test_the_key_of_an_adapter_is_taken_out_as_long_as_the_adapter_lives():
    key = "correct-horse-battery"
    llm = OpenAILLM("m", api_key=key)
    assert redacted(f"it is {key}.") == "it is [redacted: API key]."
    del llm
    gc.collect()
    assert redacted(f"it is {key}.") == f"it is {key}."
    assert all(key not in held for held in redaction._keys.all())


def test_a_key_of_the_environment_is_known_from_the_check_before_a_run(
    monkeypatch: pytest.MonkeyPatch,
):
    pytest.importorskip("openai")
    monkeypatch.setenv("OPENAI_API_KEY", "staple-of-the-day")
    llm = OpenAILLM("m")
    llm.check()
    assert "staple" not in redacted("a staple-of-the-day")
    del llm


def test_the_password_of_a_base_url_is_taken_out():
    llm = OpenAILLM("m", base_url="https://ann:open-sesame@llm.example/v1?api-version=2024-02-01")
    assert redacted("open-sesame since 2024-02-01") == "[redacted: API key] since 2024-02-01"
    del llm


def test_a_key_is_found_as_json_writes_it():
    owner, key = Owner(), 'quo"te\\é-12345'
    hold(owner, key)
    assert json.loads(redacted(json.dumps({"a": key}))) == {"a": "[redacted: API key]"}


def test_of_two_keys_that_begin_alike_the_longer_is_taken_out_whole():
    one, other = Owner(), Owner()
    hold(one, "horse-battery")
    hold(other, "horse-battery-staple")
    assert redacted("horse-battery-staple horse-battery") == (
        "[redacted: API key] [redacted: API key]"
    )


def test_a_placeholder_is_no_key():
    llm = OpenAILLM("m", base_url="http://localhost:1/v1", api_key="none")
    assert redacted("none of it") == "none of it"
    del llm


def test_the_applications_own_patterns_are_taken_out_until_they_are_taken_back():
    take_back = redact(r"\bcase-\d+\b", "case number")
    assert redacted("in case-77 of 9") == "in [redacted: case number] of 9"
    take_back()
    assert redacted("in case-77 of 9") == "in case-77 of 9"


def test_a_text_that_had_no_secret_is_looked_at_again_when_there_is_more_to_look_for():
    owner = Owner()
    assert redacted("open sesame") == "open sesame"
    hold(owner, "open sesame")
    assert redacted("open sesame") == "[redacted: API key]"
    assert redacted("case-77") == "case-77"
    redact(r"case-\d+", "case number")
    assert redacted("case-77") == "[redacted: case number]"


def test_a_pattern_of_another_library_will_do():
    class Doubling:
        def sub(self, repl: str, string: str, /) -> str:
            return string.replace("zebra", repl)

    redact(Doubling(), "animal")
    assert redacted("a zebra") == "a [redacted: animal]"


def test_words_that_are_in_the_marks_do_not_grow_by_a_pattern():
    redact(r"[a-z]+ed|key|secret", "word")
    once = redacted("the key is AIza" + "a7" * 18)
    assert redacted(once) == once


@pytest.mark.parametrize("pattern", ["x*", "", "a|", "(?=a)|b?"])
def test_a_pattern_that_is_everywhere_is_refused(pattern: str):
    with pytest.raises(ValueError, match="matches the empty text"):
        redact(pattern)


@pytest.mark.parametrize("kind", ["", "a]b", "é", "x" * 41, " a"])
def test_a_kind_that_would_not_be_told_from_text_is_refused(kind: str):
    with pytest.raises(ValueError, match="a kind is"):
        redact("x", kind)


def test_where_a_pattern_fails_nothing_of_the_text_is_left_and_it_is_logged_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    class Broken:
        def sub(self, repl: str, string: str, /) -> str:
            if string:
                raise TimeoutError(string)
            return string

    monkeypatch.setattr(redaction, "_complained", False)
    redact(Broken())
    assert redacted("open sesame") == redacted("and again") == redaction._FAILED
    [record] = caplog.records
    assert "TimeoutError" in record.getMessage()
    assert "sesame" not in record.getMessage()


def test_values_keep_their_shape_and_are_the_same_object_where_nothing_was_found():
    _, secret = standing("github")
    value = {"a": ["x", 1, None, True, {"b": secret}], secret: 1.5}
    clean = redacted_json(value)
    assert clean == {
        "a": ["x", 1, None, True, {"b": "[redacted: GitHub token]"}],
        "[redacted: GitHub token]": 1.5,
    }
    plain = {"a": ["x", 1, None, True, {"b": "y"}]}
    assert redacted_json(plain) is plain
    no_json = {"a": {"x", "y"}, "b": object()}  # for whoever writes it down to refuse
    assert redacted_json(no_json) is no_json  # type: ignore[arg-type]
    assert redacted_attributes({"a": secret, "b": (secret, "x"), "n": 1, "f": (1.5,)}) == {
        "a": "[redacted: GitHub token]",
        "b": ("[redacted: GitHub token]", "x"),
        "n": 1,
        "f": (1.5,),
    }


def test_a_loggers_records_lose_their_secrets_in_message_facts_and_traceback(
    caplog: pytest.LogCaptureFixture,
):
    _, secret = standing("anthropic")
    logger = logging.getLogger("tests.redaction")
    logger.addFilter(Filter())
    try:
        raise ValueError(f"no: {secret}")
    except ValueError:
        logger.exception("it said %s", secret, extra={"worker": f"w {secret}", "step": 1})
    logger.info("%d of nothing", 7)
    record = caplog.records[0]
    assert secret not in caplog.text
    assert "it said [redacted: API key]" in caplog.text
    assert "ValueError: no: [redacted: API key]" in caplog.text
    assert (record.worker, record.step) == ("w [redacted: API key]", 1)
    logger.warning("%d of %s", 7, "nothing")
    assert caplog.records[-1].args == (7, "nothing")  # what has no secret is as it was


def test_the_redactor_needs_nothing_but_the_standard_library_and_the_api():
    import subprocess

    program = (
        "import sys, pyagent_providers.redaction\n"
        "print([m for m in ('pydantic', 'opentelemetry.sdk', 'openai') if m in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert said.stdout.strip().endswith("]"), said.stderr
