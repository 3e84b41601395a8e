"""Style control as in section 3.3 of the WorldPM paper: how much of a preference is style.

Features of a response: token length, Markdown lists, headers, bold spans. Of a pair:
z = (Z_chosen − Z_rejected) / (Z_chosen + Z_rejected), scaled to unit root mean square. The label
is fitted by R = α·D + β·z with D the difference of scores, minimising −log σ(R).

Pairs have no natural order, so nothing here may depend on one: z is scaled but never centred, the
fit has no intercept, and the φ coefficients are those of the data with every pair in both orders.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from eval.statistics import NUM_FOLDS, Floats, Integers, folds
from worldpm.metrics import bradley_terry_losses, clustered_mean

FEATURES = ("length", "lists", "headers", "bold")
MARKDOWN = ("lists", "headers", "bold")
# What is fitted beside the score: everything, and each part alone.
ABLATIONS: dict[str, tuple[str, ...]] = {
    "none": (),
    "length": ("length",),
    "markdown": MARKDOWN,
    "all": FEATURES,
}
LIST_LINE = re.compile(r"^[ \t]*(?:[-*+]|\d{1,3}[.)])[ \t]+\S", re.MULTILINE)
HEADER_LINE = re.compile(r"^[ ]{0,3}#{1,6}[ \t]+\S", re.MULTILINE)
BOLD_SPAN = re.compile(r"\*\*[^*\n]+\*\*|__[^_\n]+__")
# Keeps a coefficient finite where a feature separates the pairs perfectly.
RIDGE = 1e-4


@dataclass(frozen=True, slots=True)
class Style:
    """Style features of one response; `length` in tokens, or characters where no model was run."""

    length: float
    lists: float
    headers: float
    bold: float

    @property
    def markdown(self) -> float:
        """All Markdown marks together."""
        return self.lists + self.headers + self.bold


def style_of(text: str, num_tokens: int | None = None) -> Style:
    """Count list items, headers and bold spans; the length is in characters without tokens."""
    return Style(
        length=float(len(text) if num_tokens is None else num_tokens),
        lists=float(len(LIST_LINE.findall(text))),
        headers=float(len(HEADER_LINE.findall(text))),
        bold=float(len(BOLD_SPAN.findall(text))),
    )


def pair_features(chosen: Sequence[Style], rejected: Sequence[Style]) -> Floats:
    """[P, 4] relative differences, each column scaled to unit root mean square (0 stays 0)."""
    chosen_P4 = np.array([[getattr(one, name) for name in FEATURES] for one in chosen])
    rejected_P4 = np.array([[getattr(one, name) for name in FEATURES] for one in rejected])
    total_P4 = chosen_P4 + rejected_P4
    z_P4 = np.divide(
        chosen_P4 - rejected_P4, total_P4, out=np.zeros_like(total_P4), where=total_P4 > 0
    )
    scale_4 = np.sqrt(np.mean(z_P4**2, axis=0))
    return z_P4 / np.where(scale_4 > 0, scale_4, 1.0)


@dataclass(frozen=True, slots=True)
class StyleFit:
    """R = alpha · D + Σ beta · z; D is the raw difference of scores."""

    alpha: float
    beta: dict[str, float]

    def margins(self, score_differences_P: Floats, features_P4: Floats) -> Floats:
        """Style-controlled margins of pairs."""
        beta_4 = np.array([self.beta.get(name, 0.0) for name in FEATURES])
        return self.alpha * score_differences_P + features_P4 @ beta_4


def fit_style(
    score_differences_P: Floats, features_P4: Floats, names: Sequence[str] = FEATURES
) -> StyleFit:
    """Fit α and the named β by maximum likelihood (chosen wins every pair), with a tiny ridge."""
    scale = float(np.sqrt(np.mean(score_differences_P**2))) or 1.0
    columns = [FEATURES.index(name) for name in names]
    design_PF = np.column_stack([score_differences_P / scale, features_P4[:, columns]])
    num_pairs = len(design_PF)

    def loss_and_gradient(coefficients: NDArray[Any]) -> tuple[float, NDArray[Any]]:
        margins_P = design_PF @ coefficients
        loss = bradley_terry_losses(margins_P).mean() + RIDGE / 2 * coefficients @ coefficients
        wrong_P = 1 / (1 + np.exp(np.clip(margins_P, -700, 700)))
        return loss, -(wrong_P @ design_PF) / num_pairs + RIDGE * coefficients

    found = minimize(loss_and_gradient, np.zeros(design_PF.shape[1]), jac=True, method="BFGS")
    alpha, *beta = (float(value) for value in found.x)
    return StyleFit(alpha / scale, dict(zip(names, beta, strict=True)))


def cross_fitted_margins(
    score_differences_P: Floats,
    features_P4: Floats,
    item_indices_P: Integers,
    names: Sequence[str] = FEATURES,
) -> Floats:
    """Each pair's style-controlled margin, with coefficients from the other folds' pairs."""
    fold_P = folds(item_indices_P)
    margins_P = np.empty(len(score_differences_P))
    for fold in range(NUM_FOLDS):
        inside = fold_P == fold
        if inside.any():
            fitted = fit_style(score_differences_P[~inside], features_P4[~inside], names)
            margins_P[inside] = fitted.margins(score_differences_P[inside], features_P4[inside])
    return margins_P


def signed_phi(first_signs_P: Floats, second_signs_P: Floats) -> float | None:
    """φ of two preferences over pairs, given as signs seen from the chosen response.

    Every pair counts in both orders. Then the margins of the 2×2 table are equal, so
    φ = (agreements − disagreements) / pairs; a pair on which one has no opinion (0) is left out.
    None without any pair left.
    """
    decided = (first_signs_P != 0) & (second_signs_P != 0)
    if not decided.any():
        return None
    return float(np.mean(np.sign(first_signs_P[decided]) * np.sign(second_signs_P[decided])))


def style_report(
    margins_P: Floats,
    chosen: Sequence[Style],
    rejected: Sequence[Style],
    item_indices_P: Integers,
) -> dict[str, Any]:
    """Everything of section 3.3 for one set of pairs, ready for JSON.

    `margins_P` are chosen − rejected scores. Needs ten items or more; fewer give an empty report.
    """
    if int(item_indices_P.max()) + 1 < 2 * NUM_FOLDS:
        return {}
    features_P4 = pair_features(chosen, rejected)
    longer_P = np.array([a.length - b.length for a, b in zip(chosen, rejected, strict=True)])
    markdown_P = np.array([a.markdown - b.markdown for a, b in zip(chosen, rejected, strict=True)])
    label_P = np.ones(len(margins_P))
    return {
        "fits": {
            name: _fit_report(margins_P, features_P4, item_indices_P, features)
            for name, features in ABLATIONS.items()
        },
        "phi": {
            "prediction_longer": signed_phi(margins_P, longer_P),
            "label_longer": signed_phi(label_P, longer_P),
            "prediction_more_markdown": signed_phi(margins_P, markdown_P),
            "label_more_markdown": signed_phi(label_P, markdown_P),
        },
        "accuracy_chosen_longer": _accuracy(margins_P, item_indices_P, longer_P > 0),
        "accuracy_chosen_shorter": _accuracy(margins_P, item_indices_P, longer_P < 0),
        "num_equal_length": int(np.count_nonzero(longer_P == 0)),
    }


def _fit_report(
    margins_P: Floats, features_P4: Floats, item_indices_P: Integers, names: Sequence[str]
) -> dict[str, Any]:
    fitted = fit_style(margins_P, features_P4, names)
    crossed_P = cross_fitted_margins(margins_P, features_P4, item_indices_P, names)
    everything = np.ones(len(margins_P), np.bool_)
    controlled_P = fitted.margins(margins_P, features_P4)
    return {
        **asdict(fitted),
        "in_sample": _accuracy(controlled_P, item_indices_P, everything),
        "cross_fitted": _accuracy(crossed_P, item_indices_P, everything),
        # The paper's "no control": the same α, every β set to 0.
        "without_control": _accuracy(fitted.alpha * margins_P, item_indices_P, everything),
    }


def _accuracy(
    margins_P: Floats, item_indices_P: Integers, selected_P: NDArray[np.bool_]
) -> dict[str, Any] | None:
    if not selected_P.any():
        return None
    margins = margins_P[selected_P]
    items = np.unique(item_indices_P[selected_P], return_inverse=True)[1]
    right = np.where(margins == 0, 0.5, (margins > 0).astype(np.float64))
    accuracy, accuracy_error = clustered_mean(right, items)
    loss, loss_error = clustered_mean(bradley_terry_losses(margins), items)
    return {
        "num_pairs": len(margins),
        "accuracy": accuracy,
        "accuracy_standard_error": None if np.isnan(accuracy_error) else accuracy_error,
        "bt_loss": loss,
        "bt_loss_standard_error": None if np.isnan(loss_error) else loss_error,
    }
