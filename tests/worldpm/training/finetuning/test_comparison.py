"""Paired comparisons: closed forms of the test, and which measurement a run kept."""

from __future__ import annotations

import numpy as np
import pytest

from worldpm.run_record import EvalRecord, TestSetResult
from worldpm.training.best_model import best_evaluation
from worldpm.training.finetuning.comparison import PairTable, difference, measure


def table(margins: list[float], items: list[int] | None = None) -> PairTable:
    """A pair an item, with these differences of scores."""
    names = items or list(range(len(margins)))
    keys = [(f"item-{name:03d}", 0, place + 1) for place, name in enumerate(names)]
    return PairTable(keys, np.asarray(margins, np.float64), np.zeros(len(margins)))


def test_a_model_does_not_differ_from_itself() -> None:
    same = table([1.0, -1.0, 0.5, 2.0])
    found = difference(same, same, seed=0)
    assert (found.accuracy, found.bt_loss, found.p_value) == (0, 0, 1)
    assert found.accuracy_interval == (0, 0)


def test_the_sign_test_is_mcnemars() -> None:
    # 9 items won, 1 lost, 10 unchanged: p = 2 (C(10, 0) + C(10, 1)) / 2^10.
    first = table([-1.0] * 9 + [1.0] + [1.0] * 10)
    second = table([1.0] * 9 + [-1.0] + [1.0] * 10)
    found = difference(first, second, seed=0)
    assert (found.items_better, found.items_worse) == (9, 1)
    assert found.p_value == pytest.approx(2 * 11 / 1024)
    assert found.accuracy == pytest.approx(8 / 20)


def test_the_interval_is_that_of_the_normal_law_for_many_items() -> None:
    random = np.random.default_rng(0)
    first, second = random.normal(0, 1, 400), random.normal(0.5, 1, 400)
    found = difference(table(first.tolist()), table(second.tolist()), seed=1)
    change = (second > 0).astype(float) - (first > 0).astype(float)
    error = change.std(ddof=1) / np.sqrt(400)
    low, high = found.accuracy_interval
    assert low == pytest.approx(change.mean() - 1.96 * error, abs=0.01)
    assert high == pytest.approx(change.mean() + 1.96 * error, abs=0.01)


def test_pairs_of_one_item_are_drawn_together() -> None:
    # Ten items whose hundred pairs all go one way carry no more than ten independent signs.
    items = [item for item in range(10) for _ in range(10)]
    signs = [1.0 if item % 2 else -1.0 for item in items]
    clustered = difference(table([0.1] * 100, items), table(signs, items), seed=0)
    single = difference(table([0.1] * 100), table(signs), seed=0)
    width = np.diff(clustered.accuracy_interval)[0]
    assert width > 2.5 * np.diff(single.accuracy_interval)[0]
    assert clustered.items_worse == 5


def test_the_gain_is_the_difference_of_the_accuracies() -> None:
    first, second = table([1.0, -1.0, 0.0, 2.0]), table([1.0, 1.0, 1.0, -2.0])
    gain = measure(second).accuracy - measure(first).accuracy
    assert difference(first, second, seed=0).accuracy == pytest.approx(gain)


def evaluation(step: int, loss: float) -> EvalRecord:
    result = TestSetResult("in_distribution", 9, 9, loss, 0.1, 0.5, 0.1, 0, 0.5)
    return EvalRecord(step, step * 8, 0, 0.0, {"validation": result})


def test_the_best_measurement_is_the_first_of_the_lowest_loss_after_a_step() -> None:
    losses = {0: 0.1, 1: 0.7, 2: 0.5, 3: 0.5, 4: 0.6}
    records = [evaluation(step, loss) for step, loss in losses.items()]
    best = best_evaluation(records, "validation")
    assert best is not None
    assert best.step == 2


def test_without_a_measurement_of_the_set_there_is_no_best() -> None:
    assert best_evaluation([evaluation(0, 0.1), evaluation(1, 0.2)], "other") is None
