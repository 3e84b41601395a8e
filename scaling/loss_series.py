"""The losses of a test set under three readings, and accuracy beside them.

`raw` is the Bradley-Terry loss of the margins as they are; `temperature` multiplies all margins by
one fitted factor, so that a change of reward scale is not taken for a change of ranking; `style`
also subtracts what style features explain (WorldPM, section 3.3). Fitted factors are cross-fitted
over items: no pair is scored with a factor that it helped to fit.
"""

# P points, Q pairs, I items, F style features

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from scaling.collect import ScoreTable
from scaling.robust_fit import Array
from worldpm.artifacts import write_atomic
from worldpm.metrics import bradley_terry_losses

SeriesName = Literal["raw", "temperature", "style"]
SERIES: tuple[SeriesName, ...] = ("raw", "temperature", "style")

NUM_FOLDS = 5
RIDGE = 1e-6  # on the factor of the margin: keeps it finite where a set is ranked perfectly
# Style coefficients (of features with an RMS of 1) have a normal prior of this deviation: a feature
# that few pairs show would else be fitted as certain, and cost the held-out pair that disagrees.
STYLE_PRIOR_DEVIATION = 0.5
NEWTON_STEPS = 30


@dataclass(frozen=True, slots=True)
class ItemLosses:
    """Weighted sums over the pairs of each item: losses [P, I] by series, accuracy [P, I]."""

    losses: dict[SeriesName, Array]
    correct_PI: Array
    weight_I: Array

    def mean_loss(self, series: SeriesName) -> Array:
        """The loss [P] over all pairs."""
        return self.losses[series].sum(axis=1) / self.weight_I.sum()

    def accuracy(self) -> Array:
        """The accuracy [P] over all pairs, a tie counting one half."""
        return self.correct_PI.sum(axis=1) / self.weight_I.sum()


def item_losses(table: ScoreTable, features_QF: Array) -> ItemLosses:
    """All series of a test set, summed within items."""
    folds_Q = assign_folds(len(table.item_ids))[table.item_Q]
    scaled_PQ = cross_fitted_margins(table.margin_PQ, features_QF[:, :0], table.weight_Q, folds_Q)
    style_PQ = cross_fitted_margins(table.margin_PQ, features_QF, table.weight_Q, folds_Q)
    margins: dict[SeriesName, Array] = {
        "raw": table.margin_PQ,
        "temperature": scaled_PQ,
        "style": style_PQ,
    }
    correct = np.where(table.margin_PQ == 0, 0.5, (table.margin_PQ > 0).astype(np.float64))
    return ItemLosses(
        losses={
            name: _sum_items(bradley_terry_losses(margin), table)
            for name, margin in margins.items()
        },
        correct_PI=_sum_items(correct, table),
        weight_I=_sum_items(np.ones((1, len(table.item_Q))), table)[0],
    )


def write_items(directory: Path, table: ScoreTable, losses: ItemLosses) -> Path:
    """Write mean loss and accuracy of every item at every evaluation as `<test set>.parquet`.

    `weight` is the sum of the weights of the item's pairs: a mean over items takes it.
    """
    num_items = len(table.item_ids)
    columns: dict[str, pa.Array] = {
        name: pa.DictionaryArray.from_arrays(
            np.repeat(np.arange(len(table.points), dtype=np.int32), num_items),
            pa.array([getattr(point, name) for point in table.points]),
        )
        for name in ("run", "size", "seed", "num_pairs")
    }
    columns["item_id"] = pa.DictionaryArray.from_arrays(
        np.tile(np.arange(num_items, dtype=np.int32), len(table.points)), pa.array(table.item_ids)
    )
    columns["weight"] = pa.array(np.tile(losses.weight_I, len(table.points)))
    for name, sums in (*losses.losses.items(), ("accuracy", losses.correct_PI)):
        columns[name] = pa.array((sums / losses.weight_I).ravel())
    path = directory / f"{table.test_set}.parquet"
    write_atomic(path, lambda hidden: pq.write_table(pa.table(columns), hidden))
    return path


def assign_folds(num_items: int) -> NDArray[np.int64]:
    """A fold for every item [I]: of equal sizes, at random but always the same."""
    return np.random.default_rng(0).permutation(num_items) % NUM_FOLDS


def relative_difference(chosen_Q: Array, rejected_Q: Array) -> Array:
    """(Z0 − Z1)/(Z0 + Z1) over its root mean square; 0 where both are 0.

    It is not centred: swapping the responses of a pair must flip its sign.
    """
    total = chosen_Q + rejected_Q
    ratio = np.divide(chosen_Q - rejected_Q, total, out=np.zeros(len(total)), where=total > 0)
    rms = float(np.sqrt((ratio**2).mean()))
    return ratio / rms if rms > 0 else ratio


def cross_fitted_margins(
    margin_PQ: Array, features_QF: Array, weight_Q: Array, folds_Q: NDArray[np.int64]
) -> Array:
    """α·margin + z·β for every pair, (α, β) fitted at each point on the pairs of other folds."""
    adjusted = np.zeros_like(margin_PQ)
    for fold in np.unique(folds_Q):
        held = folds_Q == fold
        fitted = ~held if (~held).any() else held
        theta_PK = fit_margin_scale(margin_PQ[:, fitted], features_QF[fitted], weight_Q[fitted])
        adjusted[:, held] = (
            theta_PK[:, :1] * margin_PQ[:, held] + theta_PK[:, 1:] @ features_QF[held].T
        )
    return adjusted


def fit_margin_scale(margin_PQ: Array, features_QF: Array, weight_Q: Array) -> Array:
    """(α, β) [P, 1 + F] of least Bradley-Terry loss of α·margin + z·β, α ≥ 0, with a prior on β.

    Newton's method with halved steps, all points at once; margins are scaled to an RMS of 1.
    """
    rms_P = np.sqrt((margin_PQ**2).mean(axis=1))
    rms_P = np.where(rms_P > 0, rms_P, 1.0)
    design_PQK = np.concatenate(
        [
            (margin_PQ / rms_P[:, None])[..., None],
            np.broadcast_to(features_QF, (*margin_PQ.shape, features_QF.shape[1])),
        ],
        axis=-1,
    )
    prior = 1.0 / (len(weight_Q) * STYLE_PRIOR_DEVIATION**2)
    ridge_K = np.array([RIDGE, *[prior] * features_QF.shape[1]])
    weight_Q = weight_Q / weight_Q.sum()
    theta_PK = np.zeros((len(margin_PQ), design_PQK.shape[-1]))
    for _ in range(NEWTON_STEPS):
        step = _newton_step(design_PQK, theta_PK, weight_Q, ridge_K)
        largest = np.abs(step).max(axis=1, keepdims=True)
        step *= np.minimum(1.0, 2.0 / np.maximum(largest, 1e-12))
        theta_PK = theta_PK + step
        # A reversed ranking is no scale: it counts as carrying no information.
        theta_PK[:, 0] = np.clip(theta_PK[:, 0], 0.0, 100.0)
        if np.abs(step).max() < 1e-8:
            break
    theta_PK[:, 0] /= rms_P
    return theta_PK


def _newton_step(design_PQK: Array, theta_PK: Array, weight_Q: Array, ridge_K: Array) -> Array:
    logit_PQ = np.einsum("pqk,pk->pq", design_PQK, theta_PK)
    wrong_PQ = 0.5 * (1.0 - np.tanh(0.5 * logit_PQ))  # σ(−logit), without overflow
    gradient = np.matmul((weight_Q * wrong_PQ)[:, None, :], design_PQK)[:, 0, :]
    gradient -= ridge_K * theta_PK
    curvature = weight_Q * wrong_PQ * (1.0 - wrong_PQ)
    hessian = np.matmul((design_PQK * curvature[..., None]).transpose(0, 2, 1), design_PQK)
    index = np.arange(design_PQK.shape[-1])
    hessian[:, index, index] += ridge_K
    # With α held at 0 the other parameters move alone.
    held = (theta_PK[:, 0] <= 0) & (gradient[:, 0] < 0)
    gradient[held, 0] = 0.0
    hessian[held, 0, 1:] = 0.0
    hessian[held, 1:, 0] = 0.0
    return np.linalg.solve(hessian, gradient[..., None])[..., 0]


def _sum_items(value_PQ: Array, table: ScoreTable) -> Array:
    starts = np.flatnonzero(np.diff(table.item_Q, prepend=-1))  # pairs of an item stand together
    return np.add.reduceat(value_PQ * table.weight_Q, starts, axis=1)
