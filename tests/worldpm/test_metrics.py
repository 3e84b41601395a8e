"""Loss, accuracy and errors of scored pairs against closed forms and their symmetries."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worldpm.errors import InputError
from worldpm.metrics import (
    bradley_terry_losses,
    clustered_mean,
    item_indices,
    pair_metrics,
    phi_coefficient,
)

SCORES = st.floats(-50, 50, width=32)
PAIRS = st.lists(st.tuples(SCORES, SCORES, st.integers(0, 5)), min_size=2, max_size=40).filter(
    lambda pairs: len({item for _, _, item in pairs}) > 1
)


def test_equal_scores_lose_log_two_and_count_one_half():
    metrics = pair_metrics(["a", "b"], [1.0, 3.0], [1.0, 3.0])
    assert metrics.bt_loss == pytest.approx(math.log(2))
    assert metrics.accuracy == 0.5
    assert metrics.num_ties == 2


def test_loss_is_minus_log_sigmoid_of_the_margin():
    assert bradley_terry_losses([math.log(3)])[0] == pytest.approx(math.log(4 / 3))


def test_loss_of_a_huge_wrong_margin_is_the_margin():
    assert bradley_terry_losses([-5000.0, 5000.0]).tolist() == [5000.0, 0.0]


def test_error_of_single_pair_items_is_the_ordinary_standard_error():
    values = np.array([1.0, 0.0, 1.0, 1.0, 0.0])
    mean, error = clustered_mean(values, np.arange(5))
    assert mean == pytest.approx(0.6)
    assert error == pytest.approx(values.std(ddof=1) / math.sqrt(5))


def test_repeating_every_pair_within_its_item_does_not_shrink_the_error():
    chosen, rejected = np.array([2.0, 0.0, 1.0]), np.array([1.0, 1.0, 0.5])
    once = pair_metrics(["a", "b", "c"], chosen, rejected)
    nine = pair_metrics(["a"] * 9 + ["b"] * 9 + ["c"] * 9, chosen.repeat(9), rejected.repeat(9))
    assert nine.accuracy_standard_error == pytest.approx(once.accuracy_standard_error)
    assert nine.bt_loss_standard_error == pytest.approx(once.bt_loss_standard_error)


def test_weight_zero_takes_a_pair_out_of_the_mean():
    metrics = pair_metrics(["a", "b", "c"], [2, 2, 0], [1, 1, 1], weights=[1, 1, 0])
    assert metrics.accuracy == 1.0


@given(PAIRS)
def test_accuracy_and_swapped_accuracy_sum_to_one(pairs):
    chosen, rejected, items = zip(*pairs, strict=True)
    names = [str(item) for item in items]
    straight, swapped = pair_metrics(names, chosen, rejected), pair_metrics(names, rejected, chosen)
    assert straight.accuracy + swapped.accuracy == pytest.approx(1)
    assert straight.num_ties == swapped.num_ties


@given(PAIRS, st.floats(-100, 100, width=32))
def test_a_constant_added_to_all_scores_changes_nothing(pairs, shift):
    chosen, rejected, items = (np.array(column, np.float64) for column in zip(*pairs, strict=True))
    names = [str(item) for item in items]
    straight = pair_metrics(names, chosen, rejected)
    shifted = pair_metrics(names, chosen + shift, rejected + shift)
    assert shifted.bt_loss == pytest.approx(straight.bt_loss, abs=1e-9)


def test_items_are_numbered_by_first_appearance():
    assert item_indices(["b", "a", "b"]).tolist() == [0, 1, 0]


def test_phi_of_a_table_known_in_closed_form():
    # n11 = 3, n10 = 1, n01 = 1, n00 = 3: (9 − 1) / sqrt(4·4·4·4) = 0.5
    first = [1, 1, 1, 1, 0, 0, 0, 0]
    second = [1, 1, 1, 0, 1, 0, 0, 0]
    assert phi_coefficient(first, second) == pytest.approx(0.5)


def test_phi_equals_the_pearson_correlation_and_its_limits():
    generator = np.random.default_rng(0)
    first, second = generator.random(200) < 0.3, generator.random(200) < 0.6
    assert phi_coefficient(first, second) == pytest.approx(np.corrcoef(first, second)[0, 1])
    assert phi_coefficient(first, first) == pytest.approx(1)
    assert phi_coefficient(first, ~first) == pytest.approx(-1)
    assert phi_coefficient(first, np.ones(200)) == 0


@pytest.mark.parametrize(
    ("items", "chosen", "rejected", "reason"),
    [
        (["a"], [1.0], [0.0], "two or more"),
        (["a", "b"], [1.0], [0.0, 1.0], "belong together"),
        (["a", "b"], [1.0, math.nan], [0.0, 1.0], "position 1"),
    ],
)
def test_scores_that_allow_no_number_are_refused(items, chosen, rejected, reason):
    with pytest.raises(InputError, match=reason):
        pair_metrics(items, chosen, rejected)


def test_negative_or_empty_weights_are_refused():
    with pytest.raises(InputError, match="weights"):
        pair_metrics(["a", "b"], [1, 1], [0, 0], weights=[0, 0])
