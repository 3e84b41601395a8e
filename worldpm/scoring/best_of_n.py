"""Best-of-N: picks, and what choosing among more candidates does to score, length and gold score.

For every n up to the number of candidates the expected pick of n candidates drawn without
replacement is computed exactly (the estimator of Nakano et al. 2021, appendix I), not sampled.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from scipy.special import gammaln

from worldpm.errors import InputError

# N candidates of a prompt
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Candidates:
    """The candidates of one prompt: scores, lengths in tokens, and gold scores where known."""

    scores: Floats
    lengths: Floats
    gold: Floats | None = None


@dataclass(frozen=True, slots=True)
class Average:
    """A mean over prompts with its standard error."""

    mean: float
    standard_error: float | None

    @classmethod
    def of(cls, values: Sequence[float]) -> Average:
        """Average independent prompts; one prompt has no standard error."""
        error = None
        if len(values) > 1:
            error = float(np.std(values, ddof=1) / math.sqrt(len(values)))
        return cls(float(np.mean(values)), error)


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """The expected pick among n candidates, over all prompts.

    `kl_bound` (nats) bounds how far best-of-n is from the policy that made the candidates.
    """

    n: int
    kl_bound: float
    score: Average
    length: Average
    gold: Average | None


@dataclass(frozen=True, slots=True)
class OveroptimisationFit:
    """gold(n) − gold(1) = d (alpha − beta d) with d = √kl_bound (Gao et al. 2022, section 3.1)."""

    alpha: float
    beta: float


def kl_bound(n: int) -> float:
    """log n − (n − 1)/n, in nats."""
    return math.log(n) - (n - 1) / n


def selection_probabilities(scores_N: Floats, n: int) -> Floats:
    """How likely each candidate is the best of n drawn without replacement, `[N]`.

    The candidate with r candidates below it is picked in C(r, n − 1) of C(N, n) draws. Candidates
    with equal scores share their probabilities evenly.
    """
    total = len(scores_N)
    assert 1 <= n <= total, f"cannot draw {n} of {total} candidates"
    ranks = np.arange(n - 1, total)
    log_ways = gammaln(ranks + 1) - gammaln(n) - gammaln(ranks - n + 2)
    log_draws = gammaln(total + 1) - gammaln(n + 1) - gammaln(total - n + 1)
    by_rank = np.zeros(total)
    by_rank[n - 1 :] = np.exp(log_ways - log_draws)
    order = np.argsort(scores_N, kind="stable")
    _, group = np.unique(scores_N[order], return_inverse=True)
    shared = np.bincount(group, weights=by_rank) / np.bincount(group)
    probabilities = np.empty(total)
    probabilities[order] = shared[group]
    return probabilities


def best_of_n_curve(prompts: Sequence[Candidates], sizes: Sequence[int]) -> list[CurvePoint]:
    """The curve over all prompts; every n must be at most the fewest candidates of a prompt.

    Raises:
        InputError: there is no prompt, or one has too few candidates.
    """
    if not prompts:
        raise InputError("there is no prompt with candidates")
    fewest = min(len(prompt.scores) for prompt in prompts)
    if max(sizes) > fewest:
        raise InputError(f"n is {max(sizes)}, but a prompt has only {fewest} candidates")
    return [_point(prompts, n) for n in sizes]


def default_sizes(fewest_candidates: int) -> list[int]:
    """1, 2, 4, … up to the number of candidates, and that number itself."""
    powers = [2**k for k in range(fewest_candidates.bit_length()) if 2**k < fewest_candidates]
    return [*powers, fewest_candidates]


def fit_overoptimisation(curve: Sequence[CurvePoint]) -> OveroptimisationFit | None:
    """Least squares over the curve; None without gold scores or with fewer than two gains."""
    points = [(math.sqrt(point.kl_bound), point.gold.mean) for point in curve if point.gold]
    if len(points) < 3:
        return None
    distance, gold = np.array(points).T
    features = np.stack([distance[1:], -(distance[1:] ** 2)], axis=1)
    (alpha, beta), *_ = np.linalg.lstsq(features, gold[1:] - gold[0], rcond=None)
    return OveroptimisationFit(float(alpha), float(beta))


def read_gold(path: Path, column: str) -> Iterator[list[float]]:
    """The gold scores of a file of groups: one list a group, in the file's order.

    Raises:
        InputError: the column is missing somewhere.
    """
    if path.suffix == ".parquet":
        if column not in pq.read_schema(path).names:
            raise InputError(f"{path} has no column {column}")
        for row in pq.read_table(path, columns=[column]).column(column).to_pylist():
            yield [float(value) for value in row]
        return
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            value = json.loads(line).get(column)
            if not isinstance(value, list):
                raise InputError(f"{path}:{number}: {column} must be a list of gold scores")
            yield [float(score) for score in value]


def _point(prompts: Sequence[Candidates], n: int) -> CurvePoint:
    weights = [selection_probabilities(prompt.scores, n) for prompt in prompts]
    pairs = list(zip(prompts, weights, strict=True))
    gold = [float(w @ prompt.gold) for prompt, w in pairs if prompt.gold is not None]
    return CurvePoint(
        n,
        kl_bound(n),
        Average.of([float(w @ prompt.scores) for prompt, w in pairs]),
        Average.of([float(w @ prompt.lengths) for prompt, w in pairs]),
        Average.of(gold) if len(gold) == len(prompts) else None,
    )
