"""N-grams are sets of consecutive words, whatever the case, punctuation and neighbours."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipeline.ngrams import batches_of_texts, jaccard, shingle, words

TEXTS = st.lists(st.text(alphabet="aAb1 .\n\0é価'\U0001f600_", max_size=40), max_size=8)


def ngrams_by_definition(text: str, n: int, *, whole_if_shorter: bool) -> set[bytes]:
    found = re.findall(rb"[0-9a-z\x80-\xff]+", text.lower().encode())
    if not found or (len(found) < n and not whole_if_shorter):
        return set()
    return {b" ".join(found[i : i + n]) for i in range(max(1, len(found) - n + 1))}


@given(texts=TEXTS, n=st.integers(1, 4), whole=st.booleans())
def test_hashes_are_equal_exactly_where_ngrams_are(texts: list[str], n: int, whole: bool) -> None:
    shingles = shingle(texts, n, whole_if_shorter=whole)
    expected = [ngrams_by_definition(text, n, whole_if_shorter=whole) for text in texts]
    for first in range(len(texts)):
        assert len(shingles.set_of(first)) == len(expected[first])
        for second in range(first):
            common = np.intersect1d(shingles.set_of(first), shingles.set_of(second))
            assert len(common) == len(expected[first] & expected[second])


@given(texts=TEXTS)
def test_a_texts_hashes_do_not_depend_on_its_neighbours(texts: list[str]) -> None:
    together = shingle(texts, 2)
    for place, text in enumerate(texts):
        assert together.of(place).tolist() == shingle([text], 2).of(0).tolist()


def test_case_punctuation_and_spacing_do_not_count() -> None:
    shingles = shingle(["The cat, sat on\n\n**the** mat.", "the CAT sat on the mat"], 5)
    assert shingles.set_of(0).tolist() == shingles.set_of(1).tolist()
    assert len(shingles.set_of(0)) == 2


def test_a_short_text_is_one_ngram_or_none() -> None:
    assert len(shingle(["two words"], 5).of(0)) == 1
    assert len(shingle(["two words"], 5, whole_if_shorter=False).of(0)) == 0
    assert len(shingle(["..."], 5).of(0)) == 0


def test_ngram_i_begins_with_word_i() -> None:
    text = "One, two; three four!"
    assert words(text) == ["one", "two", "three", "four"]
    assert shingle([text], 2).of(0)[2] == shingle(["three four"], 2).of(0)[0]


@pytest.mark.parametrize(
    ("first", "second", "expected"), [([1, 2, 3], [2, 3, 4], 0.5), ([1], [2], 0.0), ([], [], 0.0)]
)
def test_jaccard_is_common_over_all(first: list[int], second: list[int], expected: float) -> None:
    assert jaccard(np.array(first, np.uint64), np.array(second, np.uint64)) == expected


def test_batches_keep_every_text_in_order() -> None:
    texts = ["x" * 200_000 + str(number) for number in range(7)]
    batches = list(batches_of_texts(texts))
    assert [text for batch in batches for text in batch] == texts
    assert len(batches) == 3
