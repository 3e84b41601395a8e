"""What a set of scored preference pairs says about a model: loss, accuracy and their errors.

Pairs of one item (nine of an RM-Bench sample, all pairs of a question) share responses, so every
error here is clustered by item. Shapes: P pairs, I items, V values.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from worldpm.errors import InputError

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

# 95 %: the intervals of the whole project.
NORMAL_QUANTILE = 1.959963984540054


@dataclass(frozen=True, slots=True)
class PairMetrics:
    """Loss and accuracy of one set of pairs; errors are standard errors clustered by item."""

    num_items: int
    num_pairs: int
    bt_loss: float
    bt_loss_standard_error: float
    accuracy: float
    accuracy_standard_error: float
    num_ties: int


def pair_metrics(
    item_ids: Sequence[str] | NDArray[np.str_],
    chosen_scores: ArrayLike,
    rejected_scores: ArrayLike,
    weights: ArrayLike | None = None,
) -> PairMetrics:
    """Bradley-Terry loss (nats per pair) and accuracy of P pairs, a tie counting one half.

    `item_ids` says which pairs belong together, `weights` multiplies a pair in every mean.

    Raises:
        InputError: there are fewer than two items, lengths differ, a score is not finite, or the
            weights are negative or all zero.
    """
    chosen_P, rejected_P = _scores(chosen_scores, rejected_scores, len(item_ids))
    weight_P = np.ones(len(chosen_P)) if weights is None else np.asarray(weights, np.float64)
    item_P = item_indices(item_ids)
    num_items = int(item_P.max()) + 1 if len(item_P) else 0
    if num_items < 2:
        raise InputError(
            f"{num_items} scored items allow no standard error: a test set needs two or more"
        )
    loss, loss_error = clustered_mean(bradley_terry_losses(chosen_P - rejected_P), item_P, weight_P)
    accuracy, accuracy_error = clustered_mean(
        pair_outcomes(chosen_P, rejected_P, tie=0.5), item_P, weight_P
    )
    return PairMetrics(
        num_items=num_items,
        num_pairs=len(chosen_P),
        bt_loss=loss,
        bt_loss_standard_error=loss_error,
        accuracy=accuracy,
        accuracy_standard_error=accuracy_error,
        num_ties=int(np.count_nonzero(chosen_P == rejected_P)),
    )


def bradley_terry_losses(margins: ArrayLike) -> Floats:
    """−log σ(margin) for each margin = chosen − rejected score, without overflow."""
    return np.logaddexp(0.0, -np.asarray(margins, np.float64))


def pair_outcomes(chosen_scores: ArrayLike, rejected_scores: ArrayLike, *, tie: float) -> Floats:
    """1 where the chosen response scores higher, 0 where lower, `tie` where equal."""
    chosen_P = np.asarray(chosen_scores, np.float64)
    rejected_P = np.asarray(rejected_scores, np.float64)
    return np.where(chosen_P == rejected_P, tie, (chosen_P > rejected_P).astype(np.float64))


def item_indices(item_ids: Sequence[str] | NDArray[np.str_]) -> Integers:
    """Number the distinct ids 0…I−1 (by first appearance) and return each entry's number."""
    numbers: dict[str, int] = {}
    return np.fromiter(
        (numbers.setdefault(str(item), len(numbers)) for item in item_ids),
        dtype=np.int64,
        count=len(item_ids),
    )


def clustered_mean(
    values: ArrayLike, item_indices: Integers, weights: ArrayLike | None = None
) -> tuple[float, float]:
    """Weighted mean of V values and its standard error, clustered by item.

    The error is that of a ratio estimator: sqrt(I/(I−1) Σ_i (Σ_{v∈i} w (x−mean))²) / Σ w, which is
    the ordinary standard error where every item has one value. It is NaN for a single item.

    Raises:
        InputError: there are no values, or weights are negative or all zero.
    """
    value_V = np.asarray(values, np.float64)
    weight_V = np.ones(len(value_V)) if weights is None else np.asarray(weights, np.float64)
    total = float(weight_V.sum())
    if not len(value_V) or total <= 0 or weight_V.min() < 0:
        raise InputError("a mean needs at least one value and weights of 0 or more, not all 0")
    mean = float(weight_V @ value_V) / total
    residual_I = np.bincount(item_indices, weights=weight_V * (value_V - mean))
    num_items = len(residual_I)
    if num_items < 2:
        return mean, float("nan")
    variance = num_items / (num_items - 1) * float(residual_I @ residual_I)
    return mean, float(np.sqrt(variance)) / total


def phi_coefficient(first: ArrayLike, second: ArrayLike) -> float:
    """Correlation of two yes/no variables, (n11 n00 − n10 n01) / sqrt(product of the margins).

    0 where one of them never varies: it then carries no information about the other.
    """
    first_V = np.asarray(first, np.bool_)
    second_V = np.asarray(second, np.bool_)
    n11 = int(np.count_nonzero(first_V & second_V))
    n10 = int(np.count_nonzero(first_V & ~second_V))
    n01 = int(np.count_nonzero(~first_V & second_V))
    n00 = len(first_V) - n11 - n10 - n01
    margins = (n11 + n10) * (n01 + n00) * (n11 + n01) * (n10 + n00)
    if margins == 0:
        return 0.0
    return (n11 * n00 - n10 * n01) / float(margins) ** 0.5


def _scores(chosen: ArrayLike, rejected: ArrayLike, num_pairs: int) -> tuple[Floats, Floats]:
    chosen_P = np.asarray(chosen, np.float64)
    rejected_P = np.asarray(rejected, np.float64)
    if chosen_P.shape != (num_pairs,) or rejected_P.shape != (num_pairs,):
        raise InputError(
            f"{num_pairs} item ids, {chosen_P.shape} chosen and {rejected_P.shape} rejected scores "
            "do not belong together"
        )
    bad = ~(np.isfinite(chosen_P) & np.isfinite(rejected_P))
    if bad.any():
        raise InputError(
            f"{int(bad.sum())} pairs have a score that is no finite number, the first at position "
            f"{int(np.argmax(bad))}"
        )
    return chosen_P, rejected_P
