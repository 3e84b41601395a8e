"""Signatures estimate the Jaccard similarity as exactly as theory allows, as datasketch's do."""

from __future__ import annotations

import numpy as np
import pytest
from datasketch import MinHash

from data_pipeline.candidate_pairs import connected_components, pairs_of_band, unique_pairs
from data_pipeline.keyed_hash import mix
from data_pipeline.minhash import band_keys, sign
from data_pipeline.ngrams import Shingles

NUM_HASHES = 120
SET_SIZE = 200


def pairs_of_sets(similarity: float, num_pairs: int) -> tuple[Shingles, Shingles, float]:
    """Sets of random hashes with a known Jaccard similarity."""
    numbers = np.arange(2 * num_pairs * SET_SIZE, dtype=np.uint64).reshape(2, num_pairs, -1)
    first, second = mix(numbers[0]), mix(numbers[1])
    common = round(2 * SET_SIZE * similarity / (1 + similarity))
    second[:, :common] = first[:, :common]
    ends = np.arange(1, num_pairs + 1) * SET_SIZE
    exact = common / (2 * SET_SIZE - common)
    return Shingles(first.ravel(), ends), Shingles(second.ravel(), ends), exact


@pytest.mark.parametrize("similarity", [0.3, 0.5, 0.8, 0.9])
def test_the_share_of_equal_values_estimates_the_similarity(similarity: float) -> None:
    num_pairs = 400
    first, second, exact = pairs_of_sets(similarity, num_pairs)
    estimates = (sign(first, NUM_HASHES) == sign(second, NUM_HASHES)).mean(axis=0)
    # The number of equal values is binomial: 4 standard errors for the mean, 20 % for the spread.
    deviation = np.sqrt(exact * (1 - exact) / NUM_HASHES)
    assert abs(estimates.mean() - exact) < 4 * deviation / np.sqrt(num_pairs)
    assert abs(estimates.std() / deviation - 1) < 0.2


def test_the_error_is_datasketchs() -> None:
    num_pairs = 60
    first, second, exact = pairs_of_sets(0.7, num_pairs)
    ours = (sign(first, NUM_HASHES) == sign(second, NUM_HASHES)).mean(axis=0)

    def signature(hashes: np.ndarray) -> MinHash:
        result = MinHash(num_perm=NUM_HASHES, hashfunc=lambda value: int(value) & 0xFFFFFFFF)
        result.update_batch(hashes.tolist())
        return result

    theirs = np.array(
        [signature(first.of(i)).jaccard(signature(second.of(i))) for i in range(num_pairs)]
    )
    assert np.abs(ours - exact).mean() < 1.3 * np.abs(theirs - exact).mean()


def test_signatures_do_not_depend_on_the_batch() -> None:
    hashes = mix(np.arange(70_000, dtype=np.uint64))
    ends = np.array([0, 3, 3, 40_000, 40_010, 70_000])
    together = sign(Shingles(hashes, ends), 8)
    for text in range(len(ends)):
        part = Shingles(hashes, ends).of(text)
        alone = sign(Shingles(part, np.array([len(part)])), 8)
        assert together[:, text].tolist() == alone[:, 0].tolist()
    assert (together[:, 0] == np.iinfo(np.uint32).max).all()


@pytest.mark.parametrize("similarity", [0.6, 0.8, 0.9])
def test_documents_share_a_band_as_often_as_theory_says(similarity: float) -> None:
    num_bands, rows, num_pairs = 20, 6, 500
    first, second, exact = pairs_of_sets(similarity, num_pairs)
    keys = [band_keys(sign(sets, num_bands * rows), num_bands) for sets in (first, second)]
    found = (keys[0] == keys[1]).any(axis=0).mean()
    expected = 1 - (1 - exact**rows) ** num_bands
    assert abs(found - expected) < 4 * np.sqrt(expected * (1 - expected) / num_pairs) + 1e-9


@pytest.mark.parametrize("documents_at_once", [10_000, 300, 40])
def test_pairs_of_a_band_do_not_depend_on_the_number_of_passes(documents_at_once: int) -> None:
    keys = mix(np.arange(1000, dtype=np.uint64) % 600)
    columns = np.split(keys, [10, 10, 500])
    pairs = pairs_of_band(lambda: columns, len(keys), documents_at_once=documents_at_once)
    assert pairs.tolist() == [[i, i + 600] for i in range(400)]


def test_all_pairs_of_a_small_run_and_a_linear_number_of_a_large_one() -> None:
    small = pairs_of_band(lambda: [np.zeros(8, np.uint64)], 8, documents_at_once=100)
    assert len(small) == 8 * 7 // 2
    large = pairs_of_band(lambda: [np.zeros(5000, np.uint64)], 5000, documents_at_once=10_000)
    assert len(large) < 8 * 5000
    _, least = connected_components(large)
    assert (least == 0).all()


def test_components_are_named_by_their_least_document() -> None:
    pairs = np.array([[5, 9], [2, 7], [7, 9], [11, 30]])
    documents, least = connected_components(pairs)
    assert dict(zip(documents.tolist(), least.tolist(), strict=True)) == {
        2: 2, 5: 2, 7: 2, 9: 2, 11: 11, 30: 11,
    }  # fmt: skip


def test_no_pairs_make_no_components() -> None:
    documents, least = connected_components(unique_pairs([]))
    assert len(documents) == len(least) == 0
