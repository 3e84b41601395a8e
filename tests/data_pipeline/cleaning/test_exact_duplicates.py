"""What counts as the same text."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from data_pipeline.stages.exact_duplicates import ASCII_SPACE, normalise_text


def test_ascii_white_space_is_pythons() -> None:
    assert set(ASCII_SPACE) == {code for code in range(128) if chr(code).isspace()}


@given(st.text() | st.text("aB \t\n\x1f\x85\xa0\u2003ßſK"))
def test_case_and_white_space_do_not_count_and_all_else_does(text: str) -> None:
    kept = "".join(character for character in text.casefold() if not character.isspace())
    assert normalise_text(text) == kept.encode()
    assert normalise_text(f" {text}\n") == normalise_text(text.casefold())
