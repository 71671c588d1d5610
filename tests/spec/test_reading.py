"""YAML is read safely: no code, no tags, nothing that grows or nests without bound."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyagent_patterns.spec import DefinitionError, load

from .conftest import Write, faults_of


@pytest.mark.parametrize(
    ("text", "line", "why"),
    [
        ("", 1, "the file is empty"),
        ("# only a comment\n", 1, "the file is empty"),
        ("- a\n", 1, "a definition is a mapping"),
        ("a: 1\nb: 2\na: 3\n", 3, "'a' is on line 1 already"),
        ("agents:\n  a: {llm: x, llm: y}\n", 2, "'llm' is on line 2 already"),
        ("x: !!python/object/apply:os.system [id]\n", 1, "tags are not read"),
        ("x: !env A_KEY\n", 1, "tags are not read"),
        ("x: *nobody\n", 1, "no value is anchored as 'nobody' before this"),
        ("x: &x [*x]\n", 1, "no value is anchored as 'x' before this"),
        ("a: &a {b: 1}\nc:\n  <<: *a\n", 3, "'<<' is not read"),
        ("a: 1\n---\nb: 2\n", 2, "a file holds one definition"),
        ("a: [1\nb: 2\n", 2, "this is not YAML"),
        ("a:\n\t- b\n", 2, "this is not YAML"),
        ("? [a, b]\n: c\n", 1, "a key must be a word"),
        ("a: b\x07\n", 1, "cannot stand here"),
        ("a: " + "[" * 300 + "]" * 300, 1, "nested more than 40 deep"),
        ("a: " + "{a: " * 5000 + "}" * 5000, 1, "nested more than 40 deep"),
        ("x: " + "a" * 1_000_001, 1, "more than 1,000,000 characters"),
    ],
)
def test_what_is_not_read_is_told_with_its_line(
    write: Write, text: str, line: int, why: str
) -> None:
    (fault,) = faults_of(write(text))
    assert (fault.line, why in fault.message) == (line, True), fault


def test_aliases_that_multiply_are_stopped(write: Write) -> None:
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12)
    )
    (fault,) = faults_of(write(bomb))
    assert "with all aliases the file has more than 50,000 values" in fault.message


def test_aliases_that_nest_are_stopped(write: Write) -> None:
    deep = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 2000))
    (fault,) = faults_of(write(deep))
    assert "nested more than 40 deep" in fault.message


def test_a_file_that_is_no_text_is_told(tmp_path: Path) -> None:
    path = tmp_path / "team.yaml"
    path.write_bytes(b"a: \xff\xfe")
    with pytest.raises(DefinitionError, match="not UTF-8 text, from byte 3 on"):
        load(path)


def test_a_byte_order_mark_and_windows_line_ends_are_read(write: Write, tmp_path: Path) -> None:
    write("")
    path = tmp_path / "team.yaml"
    text = "agents:\r\n  a: {llm: 'custom:parts.py:echo'}\r\nteam: {pattern: pipeline, stages: [a]}"
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert load(path).team.kind == "pipeline"
