"""How much a model's choices follow length and Markdown, at every evaluation of a test set.

Token counts come with the scores. Markdown is counted in the responses themselves, where the test
set's file is still at the place that the run's configuration names; else length is all there is.
"""

# P points, Q pairs, F features, R responses

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from eval.style_control import FEATURES, MARKDOWN, signed_phi, style_of
from scaling.collect import Run, ScoreTable
from scaling.loss_series import relative_difference
from scaling.robust_fit import Array
from worldpm.errors import InputError
from worldpm.group_files import read_group_file

MIN_STYLED_PAIRS = 20  # pairs whose responses differ in a feature, for it to be fitted


@dataclass(frozen=True, slots=True)
class StyleFeatures:
    """Per pair: scaled features [Q, F] with their names, and signs of what is longer, more marked.

    `more_markdown_Q` is None where the texts are not at hand; `note` then says why.
    """

    names: tuple[str, ...]
    features_QF: Array
    longer_Q: Array
    more_markdown_Q: Array | None
    note: str


@dataclass(frozen=True, slots=True)
class StylePoint:
    """One evaluation: φ of choice and style, accuracy where the chosen is longer or shorter."""

    size: str
    seed: int
    num_pairs: int
    phi_longer: float | None
    phi_markdown: float | None
    accuracy_chosen_longer: float | None
    accuracy_chosen_shorter: float | None


@dataclass(frozen=True, slots=True)
class StyleReading:
    """All evaluations of a test set, beside the same φ of its labels (the oracle line)."""

    points: tuple[StylePoint, ...]
    label_phi_longer: float | None
    label_phi_markdown: float | None
    num_longer: int
    num_shorter: int
    features: tuple[str, ...]
    note: str


def style_features(table: ScoreTable, runs: Sequence[Run]) -> StyleFeatures:
    """Length and, where the texts are at hand, Markdown features of a test set's pairs."""
    lengths_Q = relative_difference(table.chosen_tokens_Q, table.rejected_tokens_Q)
    longer_Q = np.sign(table.chosen_tokens_Q - table.rejected_tokens_Q)
    counts, note = _markdown_counts(table, runs)
    if counts is None:
        return StyleFeatures(FEATURES[:1], lengths_Q[:, None], longer_Q, None, note)
    chosen_QF, rejected_QF = counts
    shown = [
        column
        for column in range(len(MARKDOWN))
        if np.count_nonzero(chosen_QF[:, column] - rejected_QF[:, column]) >= MIN_STYLED_PAIRS
    ]
    columns = [
        relative_difference(chosen_QF[:, column], rejected_QF[:, column]) for column in shown
    ]
    names = FEATURES[:1] + tuple(MARKDOWN[column] for column in shown)
    more_markdown_Q = np.sign(chosen_QF.sum(axis=1) - rejected_QF.sum(axis=1))
    return StyleFeatures(
        names, np.stack([lengths_Q, *columns], axis=1), longer_Q, more_markdown_Q, ", ".join(names)
    )


def read_style(table: ScoreTable, features: StyleFeatures) -> StyleReading:
    """φ and split accuracies at every evaluation."""
    label_Q = np.ones(len(table.item_Q))
    markdown_Q = features.more_markdown_Q
    longer_Q = features.longer_Q
    points = tuple(
        StylePoint(
            size=point.size,
            seed=point.seed,
            num_pairs=point.num_pairs,
            phi_longer=signed_phi(margin_Q, longer_Q),
            phi_markdown=None if markdown_Q is None else signed_phi(margin_Q, markdown_Q),
            accuracy_chosen_longer=_accuracy(margin_Q[longer_Q > 0]),
            accuracy_chosen_shorter=_accuracy(margin_Q[longer_Q < 0]),
        )
        for point, margin_Q in zip(table.points, table.margin_PQ, strict=True)
    )
    return StyleReading(
        points=points,
        label_phi_longer=signed_phi(label_Q, longer_Q),
        label_phi_markdown=None if markdown_Q is None else signed_phi(label_Q, markdown_Q),
        num_longer=int((longer_Q > 0).sum()),
        num_shorter=int((longer_Q < 0).sum()),
        features=features.names,
        note=features.note,
    )


def _markdown_counts(
    table: ScoreTable, runs: Sequence[Run]
) -> tuple[tuple[Array, Array] | None, str]:
    path = _test_set_path(table.test_set, runs)
    if path is None:
        return None, "length only: the run names no file of this test set"
    if not path.exists():
        return None, f"length only: {path} is not there any more"
    rows = {item: index for index, item in enumerate(table.item_ids)}
    counts: list[Array | None] = [None] * len(rows)
    try:
        for group in read_group_file(path):
            index = rows.get(group.group_id)
            if index is not None:
                counts[index] = np.array([_marks(text) for text in group.responses])
    except InputError as exc:
        return None, f"length only: {exc}"
    if any(found is None for found in counts):
        return None, f"length only: {path} lacks some of the scored items"
    pairs = zip(table.item_Q, table.chosen_Q, table.rejected_Q, strict=True)
    both = [(counts[item], chosen, rejected) for item, chosen, rejected in pairs]
    if any(found is None or max(one, two) >= len(found) for found, one, two in both):
        return None, f"length only: {path} holds other responses than were scored"
    chosen_QF = np.array([found[one] for found, one, _ in both if found is not None])
    rejected_QF = np.array([found[two] for found, _, two in both if found is not None])
    return (chosen_QF, rejected_QF), ""


def _marks(text: str) -> list[float]:
    style = style_of(text)
    return [style.lists, style.headers, style.bold]


def _test_set_path(name: str, runs: Sequence[Run]) -> Path | None:
    for run in runs:
        test_set = run.record.config.get("test_sets", {}).get(name)
        if test_set and test_set.get("path"):
            return Path(test_set["path"])
    return None


def _accuracy(margin_Q: Array) -> float | None:
    if len(margin_Q) == 0:
        return None
    return float(np.where(margin_Q == 0, 0.5, margin_Q > 0).mean())
