"""Set evaluations side by side: which differences on the same items stand.

Right-or-wrong items that all count alike are compared by McNemar's exact test, everything else by
a paired bootstrap within the strata of the rule. Holm's correction runs over the benchmarks of
each pair of models.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow.parquet as pq

from eval.evaluation import OUTCOMES_FILE, RESULTS_FILE
from eval.results import PROTOCOLS
from eval.statistics import Floats, Interval, holm, mcnemar_p_value, percentile_interval
from worldpm.artifacts import read_json
from worldpm.errors import InputError

SIGNIFICANCE = 0.05
Test = Literal["McNemar", "paired bootstrap"]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One finished evaluation: its name, `results.json` and what every item earned."""

    name: str
    report: Mapping[str, Any]
    outcomes: Mapping[tuple[str, str], Mapping[str, tuple[float, float, float]]]

    @classmethod
    def read(cls, folder: Path) -> Evaluation:
        """Read the folder of `eval run` or `eval aggregate`.

        Raises:
            InputError: a file is missing.
        """
        missing = [name for name in (RESULTS_FILE, OUTCOMES_FILE) if not (folder / name).is_file()]
        if missing:
            raise InputError(f"{folder} holds no {missing[0]}: name the output_dir of an eval run")
        table = pq.read_table(folder / OUTCOMES_FILE)
        outcomes: dict[tuple[str, str], dict[str, tuple[float, float, float]]] = {}
        columns = ("benchmark", "protocol", "item_id", "credit", "size", "weight")
        values = [table.column(column).to_pylist() for column in columns]
        for benchmark, protocol, item_id, credit, size, weight in zip(*values, strict=True):
            outcomes.setdefault((benchmark, protocol), {})[item_id] = (credit, size, weight)
        return cls(folder.name, read_json(folder / RESULTS_FILE), outcomes)


@dataclass(frozen=True, slots=True)
class Difference:
    """Second minus first model on one benchmark, on the same items."""

    benchmark: str
    first: str
    second: str
    num_items: int
    first_accuracy: float
    second_accuracy: float
    difference: float
    interval: Interval
    p_value: float
    test: Test
    adjusted_p_value: float = 1.0

    @property
    def stands(self) -> bool:
        """Whether the difference survives Holm's correction at 5 %."""
        return self.adjusted_p_value < SIGNIFICANCE


@dataclass(frozen=True, slots=True)
class Comparison:
    """All differences, and benchmarks that could not be compared with the reason."""

    evaluations: tuple[Evaluation, ...]
    protocol: str
    differences: tuple[Difference, ...]
    skipped: tuple[tuple[str, str], ...]


def compare_evaluations(
    folders: Sequence[Path], *, protocol: str, num_bootstrap: int = 2000, seed: int = 0
) -> Comparison:
    """Compare every evaluation with the first, on all benchmarks they share.

    Raises:
        InputError: fewer than two folders, an unknown protocol, or nothing in common.
    """
    if len(folders) < 2:
        raise InputError("a comparison needs two evaluations or more")
    if protocol not in PROTOCOLS:
        raise InputError(f"protocol is {protocol!r}: must be one of {', '.join(PROTOCOLS)}")
    evaluations = _distinct([Evaluation.read(folder) for folder in folders])
    first, *others = evaluations
    differences: list[Difference] = []
    skipped: list[tuple[str, str]] = []
    for other in others:
        found: list[Difference] = []
        for benchmark, rule in first.outcomes:
            if rule != protocol:
                continue
            reason = _cannot_compare(first, other, (benchmark, rule))
            if reason:
                skipped.append((f"{benchmark} ({other.name})", reason))
                continue
            generator = np.random.default_rng(seed)
            found.append(_difference(first, other, (benchmark, rule), num_bootstrap, generator))
        adjusted = holm([one.p_value for one in found])
        differences += [
            replace(one, adjusted_p_value=p) for one, p in zip(found, adjusted, strict=True)
        ]
    if not differences:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in skipped) or "no benchmarks"
        raise InputError(f"nothing can be compared: {reasons}")
    return Comparison(tuple(evaluations), protocol, tuple(differences), tuple(skipped))


def _distinct(evaluations: Sequence[Evaluation]) -> list[Evaluation]:
    names = [one.name for one in evaluations]
    return [
        replace(one, name=f"{one.name} ({index + 1})") if names.count(one.name) > 1 else one
        for index, one in enumerate(evaluations)
    ]


def _cannot_compare(first: Evaluation, other: Evaluation, key: tuple[str, str]) -> str | None:
    if key not in other.outcomes:
        return f"{other.name} has no result"
    if first.outcomes[key].keys() != other.outcomes[key].keys():
        return "the two were evaluated on different items"
    return None


def _difference(
    first: Evaluation,
    second: Evaluation,
    key: tuple[str, str],
    num_bootstrap: int,
    generator: np.random.Generator,
) -> Difference:
    rows_first, rows_second = first.outcomes[key], second.outcomes[key]
    table_I3 = np.array([rows_first[item] for item in rows_first])
    other_I3 = np.array([rows_second[item] for item in rows_first])
    weights, credits_first, credits_second = table_I3[:, 2], table_I3[:, 0], other_I3[:, 0]
    gains = weights * (credits_second - credits_first)
    draws_B = _bootstrap_sums(gains, weights, num_bootstrap, generator)
    is_plain = len(np.unique(weights)) == 1 and set(
        np.unique(np.concatenate([credits_first, credits_second]))
    ) <= {0.0, 1.0}
    if is_plain:
        p_value = mcnemar_p_value(
            int(np.sum(credits_first > credits_second)), int(np.sum(credits_second > credits_first))
        )
    else:
        # The observed data count as one draw: a p-value is never zero.
        below, above = np.sum(draws_B <= 0) + 1, np.sum(draws_B >= 0) + 1
        p_value = min(1.0, 2 * float(min(below, above)) / (num_bootstrap + 1))
    return Difference(
        benchmark=key[0],
        first=first.name,
        second=second.name,
        num_items=len(gains),
        first_accuracy=float(weights @ credits_first),
        second_accuracy=float(weights @ credits_second),
        difference=float(gains.sum()),
        interval=percentile_interval(draws_B),
        p_value=p_value,
        test="McNemar" if is_plain else "paired bootstrap",
    )


def _bootstrap_sums(
    gains: Floats, weights: Floats, num_bootstrap: int, generator: np.random.Generator
) -> Floats:
    """Σ gain over resampled items, resampled among the items of equal weight."""
    sums_B = np.zeros(num_bootstrap)
    for weight in np.unique(weights):
        members = gains[weights == weight]
        values, counts = np.unique(members, return_counts=True)
        drawn = generator.multinomial(len(members), counts / len(members), size=num_bootstrap)
        sums_B += drawn @ values
    return sums_B
