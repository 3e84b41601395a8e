"""Was the fine-tuning worth it: before against after, and against the run from other weights.

Everything is read from run directories: the pair scores of the measurements before the first step
and of the model that was kept. Both sides of a comparison are scored on the same pairs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from scipy.stats import binomtest

from worldpm.artifacts import atomic_file, write_json
from worldpm.errors import ArtifactError
from worldpm.metrics import (
    bradley_terry_losses,
    clustered_mean,
    item_indices,
    pair_outcomes,
)
from worldpm.run_record import RunRecord, eval_path, read_evals
from worldpm.training.best_model import best_evaluation

# I items, P pairs, B bootstrap draws.

NUM_DRAWS = 2000
DRAWS_AT_ONCE = 200
COMPARISON_FILE = "comparison.json"
TABLE_FILE = "comparison.md"

PairKey = tuple[str, int, int]


@dataclass(frozen=True, slots=True)
class Measured:
    """A model on a test set; errors are standard errors over items, a tie counts one half."""

    accuracy: float
    accuracy_standard_error: float
    bt_loss: float
    bt_loss_standard_error: float


@dataclass(frozen=True, slots=True)
class Difference:
    """Second minus first model on the same items, with 95 % bootstrap intervals over items.

    `p_value` is the exact two-sided sign test over items whose accuracies differ: McNemar's test
    where an item is one pair.
    """

    accuracy: float
    accuracy_interval: tuple[float, float]
    bt_loss: float
    bt_loss_interval: tuple[float, float]
    items_better: int
    items_worse: int
    p_value: float


@dataclass(frozen=True, slots=True)
class TestSetComparison:
    """One test set: the weights before, after fine-tuning, and the baseline run's after."""

    num_items: int
    num_pairs: int
    before: Measured
    after: Measured
    gain: Difference
    baseline: Measured | None = None
    over_baseline: Difference | None = None

    __test__ = False


@dataclass(frozen=True, slots=True)
class PairTable:
    """Scores of pairs that have a name: item, chosen and rejected response."""

    keys: list[PairKey]
    chosen: np.ndarray
    rejected: np.ndarray

    def only(self, keys: set[PairKey]) -> PairTable:
        """The pairs of these names, in the order of names."""
        kept = sorted((key, place) for place, key in enumerate(self.keys) if key in keys)
        places = np.asarray([place for _, place in kept], np.int64)
        return PairTable([key for key, _ in kept], self.chosen[places], self.rejected[places])


def compare_run(
    run: Path, baseline: Path | None = None, *, seed: int = 0
) -> dict[str, TestSetComparison]:
    """Compare a finished fine-tuning run with its start, and with a baseline run.

    Raises:
        ArtifactError: a run has not been measured, or shares no test set with the baseline.
    """
    before = read_pair_scores(run, first_step(run))
    after = read_pair_scores(run, kept_step(run))
    other = {} if baseline is None else read_pair_scores(baseline, kept_step(baseline))
    if baseline is not None and not after.keys() & other.keys():
        raise ArtifactError(f"{baseline} was measured on none of the test sets of {run}")
    return {
        name: _compare(before[name], after[name], other.get(name), seed)
        for name in after
        if name in before
    }


def first_step(run: Path) -> int:
    """The step of a run's first measurement (0: before training)."""
    steps = [record.step for record in read_evals(run)]
    if not steps or steps[0] > 0:
        raise ArtifactError(f"{run} holds no measurement before the first step")
    return steps[0]


def kept_step(run: Path) -> int:
    """The step whose model the run kept: of the lowest loss on `evaluation.keep_best`, or last."""
    records = list(read_evals(run))
    name = RunRecord.read(run).config["evaluation"].get("keep_best")
    best = records[-1] if name is None and records else best_evaluation(records, name or "")
    if best is None:
        raise ArtifactError(f"{run} holds no measurement after a step")
    return best.step


def read_pair_scores(run: Path, step: int) -> dict[str, PairTable]:
    """The pair scores of one measurement, by test set.

    Raises:
        ArtifactError: the file is missing.
    """
    path = eval_path(run, step, ".parquet")
    if not path.is_file():
        raise ArtifactError(f"{path} does not exist: that measurement is not complete")
    columns = ["test_set", "item_id", "chosen", "rejected", "chosen_score", "rejected_score"]
    table = pq.read_table(path, columns=columns)
    names = np.asarray(table["test_set"].to_pylist())
    found: dict[str, PairTable] = {}
    for name in dict.fromkeys(names.tolist()):
        part = table.filter(names == name)
        indices = (part["item_id"], part["chosen"], part["rejected"])
        found[name] = PairTable(
            list(zip(*(column.to_pylist() for column in indices), strict=True)),
            part["chosen_score"].to_numpy(),
            part["rejected_score"].to_numpy(),
        )
    return found


def _compare(
    before: PairTable, after: PairTable, baseline: PairTable | None, seed: int
) -> TestSetComparison:
    shared = set(before.keys) & set(after.keys)
    if baseline is not None:
        # Another encoder may have made two answers the same ids, and left out their pair.
        shared &= set(baseline.keys)
    before, after = before.only(shared), after.only(shared)
    baseline = None if baseline is None else baseline.only(shared)
    return TestSetComparison(
        num_items=len({item for item, _, _ in after.keys}),
        num_pairs=len(after.keys),
        before=measure(before),
        after=measure(after),
        gain=difference(before, after, seed=seed),
        baseline=None if baseline is None else measure(baseline),
        over_baseline=None if baseline is None else difference(baseline, after, seed=seed),
    )


def measure(table: PairTable) -> Measured:
    """Accuracy and loss of one model."""
    item_P = _items(table)
    accuracy = clustered_mean(pair_outcomes(table.chosen, table.rejected, tie=0.5), item_P)
    loss = clustered_mean(bradley_terry_losses(table.chosen - table.rejected), item_P)
    return Measured(*accuracy, *loss)


def difference(first: PairTable, second: PairTable, *, seed: int) -> Difference:
    """Second minus first model; both tables hold the same pairs in the same order."""
    assert first.keys == second.keys, "the models were not scored on the same pairs"
    item_P = _items(first)
    credit_P = pair_outcomes(second.chosen, second.rejected, tie=0.5) - pair_outcomes(
        first.chosen, first.rejected, tie=0.5
    )
    loss_P = bradley_terry_losses(second.chosen - second.rejected) - bradley_terry_losses(
        first.chosen - first.rejected
    )
    size_I = np.bincount(item_P).astype(np.float64)
    credit_I = np.bincount(item_P, weights=credit_P)
    loss_I = np.bincount(item_P, weights=loss_P)
    means_B2 = _bootstrap(np.stack([credit_I, loss_I], axis=1), size_I, seed)
    better, worse = int((credit_I > 0).sum()), int((credit_I < 0).sum())
    return Difference(
        accuracy=float(credit_P.mean()),
        accuracy_interval=_interval(means_B2[:, 0]),
        bt_loss=float(loss_P.mean()),
        bt_loss_interval=_interval(means_B2[:, 1]),
        items_better=better,
        items_worse=worse,
        p_value=float(binomtest(better, better + worse).pvalue) if better + worse else 1.0,
    )


def _items(table: PairTable) -> np.ndarray:
    return item_indices([item for item, _, _ in table.keys])


def _bootstrap(sums_I2: np.ndarray, size_I: np.ndarray, seed: int) -> np.ndarray:
    """Means [B, 2] over pairs, of items drawn with replacement."""
    generator = np.random.default_rng(seed)
    num_items = len(size_I)
    draws: list[np.ndarray] = []
    for _ in range(0, NUM_DRAWS, DRAWS_AT_ONCE):
        counts_BI = generator.multinomial(
            num_items, np.full(num_items, 1 / num_items), size=DRAWS_AT_ONCE
        ).astype(np.float64)
        draws.append((counts_BI @ sums_I2) / (counts_BI @ size_I)[:, None])
    return np.concatenate(draws)


def _interval(draws_B: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(draws_B, [0.025, 0.975])
    return float(low), float(high)


def write_comparison(run: Path, results: Mapping[str, TestSetComparison]) -> None:
    """Write `comparison.json` and `comparison.md` into the run directory."""
    values: dict[str, Any] = {name: asdict(result) for name, result in results.items()}
    write_json(run / COMPARISON_FILE, values)
    with atomic_file(run / TABLE_FILE) as file:
        file.write(comparison_table(results) + "\n")


def comparison_table(results: Mapping[str, TestSetComparison]) -> str:
    """Accuracies in percent as a Markdown table; with a baseline in the layout of Table 2."""
    has_baseline = any(result.baseline is not None for result in results.values())
    head = ["test set", "pairs", "before", "after", "gain [95 %]", "p"]
    if has_baseline:
        head += ["after, from the baseline's weights", "difference [95 %]", "p"]
    rows = [head, ["---"] * len(head)]
    for name, result in results.items():
        row = [name, f"{result.num_pairs:,}", _percent(result.before), _percent(result.after)]
        row += _gain(result.gain)
        if has_baseline:
            row += [_percent(result.baseline), *_gain(result.over_baseline)]
        rows.append(row)
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _percent(measured: Measured | None) -> str:
    if measured is None:
        return "–"
    return f"{100 * measured.accuracy:.1f} ± {100 * measured.accuracy_standard_error:.1f}"


def _gain(gain: Difference | None) -> list[str]:
    if gain is None:
        return ["–", "–"]
    low, high = (100 * bound for bound in gain.accuracy_interval)
    return [f"{100 * gain.accuracy:+.1f} [{low:+.1f}, {high:+.1f}]", f"{gain.p_value:.2g}"]
