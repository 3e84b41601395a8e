"""Style features, recovery of planted coefficients, and the closed form of φ."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.style_control import (
    FEATURES,
    cross_fitted_margins,
    fit_style,
    pair_features,
    signed_phi,
    style_of,
    style_report,
)
from worldpm.metrics import phi_coefficient


def test_lists_headers_and_bold_spans_are_counted():
    text = "# Title\n\n- one\n* two\n1. three\n  2) four\n\n**bold** and __also__, not ** this\n#no"
    style = style_of(text)
    assert (style.lists, style.headers, style.bold) == (4, 1, 2)
    assert style.markdown == 7


def test_plain_text_and_code_have_no_markdown():
    assert style_of("a - b\n\ndef f(**kwargs): return 2 * 3 ** 4\n-x").markdown == 0


def test_length_is_in_tokens_where_they_are_known():
    assert style_of("four", 2).length == 2
    assert style_of("four").length == 4


def test_features_are_relative_differences_of_unit_mean_square():
    chosen = [style_of("x" * 30), style_of("x" * 10)]
    rejected = [style_of("x" * 10), style_of("x" * 30)]
    features = pair_features(chosen, rejected)
    # (30 − 10)/40 = ½ and −½, scaled to 1 and −1; nobody uses Markdown: 0, not NaN.
    assert features.tolist() == [[1, 0, 0, 0], [-1, 0, 0, 0]]


def _simulated(alpha: float, beta: np.ndarray, num_pairs: int = 20000):
    generator = np.random.default_rng(5)
    scores = generator.normal(0, 1.5, num_pairs)
    features = generator.normal(0, 1, (num_pairs, 4))
    logit = alpha * scores + features @ beta
    sign = np.where(generator.random(num_pairs) < 1 / (1 + np.exp(-logit)), 1.0, -1.0)
    # In the order chosen − rejected every label is 1.
    return sign * scores, sign[:, None] * features


def test_planted_coefficients_are_recovered():
    beta = np.array([0.6, -0.3, 0.0, 0.2])
    fitted = fit_style(*_simulated(0.8, beta))
    assert fitted.alpha == pytest.approx(0.8, abs=0.04)
    assert [fitted.beta[name] for name in FEATURES] == pytest.approx(list(beta), abs=0.04)


def test_style_that_decides_nothing_gets_no_weight_and_changes_no_accuracy():
    scores, features = _simulated(1.0, np.zeros(4))
    margins = cross_fitted_margins(scores, features, np.arange(len(scores)))
    assert np.mean(margins > 0) == pytest.approx(np.mean(scores > 0), abs=0.01)


def test_an_ablation_fits_only_its_features():
    scores, features = _simulated(0.8, np.array([0.6, 0, 0, 0]))
    fitted = fit_style(scores, features, ("length",))
    assert set(fitted.beta) == {"length"}
    assert fitted.beta["length"] == pytest.approx(0.6, abs=0.05)


@given(
    st.lists(
        st.tuples(st.sampled_from([-1.0, 1.0]), st.sampled_from([-1.0, 1.0])),
        min_size=1,
        max_size=60,
    )
)
def test_signed_phi_is_the_phi_of_the_pairs_in_both_orders(pairs):
    first, second = (np.array(column) for column in zip(*pairs, strict=True))
    both_first, both_second = np.concatenate([first, -first]), np.concatenate([second, -second])
    assert signed_phi(first, second) == pytest.approx(
        phi_coefficient(both_first > 0, both_second > 0)
    )


def test_phi_of_always_longer_and_of_pairs_without_opinion():
    margins = np.array([2.0, 1.0, 3.0, 5.0])
    assert signed_phi(margins, np.ones(4)) == 1
    assert signed_phi(margins, np.array([1.0, 1.0, 1.0, -1.0])) == 0.5
    assert signed_phi(margins, np.zeros(4)) is None


def test_report_splits_accuracy_by_length():
    long, short = style_of("x" * 50), style_of("x" * 5)
    # 12 pairs whose chosen is longer, all right; 12 whose chosen is shorter, a third right.
    margins = np.array([1.0] * 12 + [1.0, -1.0, -1.0] * 4)
    report = style_report(
        margins, [long] * 12 + [short] * 12, [short] * 12 + [long] * 12, np.arange(24)
    )
    assert report["accuracy_chosen_longer"]["accuracy"] == 1
    assert report["accuracy_chosen_shorter"]["accuracy"] == pytest.approx(1 / 3)
    assert report["phi"]["label_longer"] == 0
    # longer in 12 + 8 of 24
    assert report["phi"]["prediction_longer"] == pytest.approx((20 - 4) / 24)
    assert set(report["fits"]) == {"none", "length", "markdown", "all"}


def test_too_few_items_give_no_style_report():
    assert style_report(np.ones(3), [style_of("a")] * 3, [style_of("b")] * 3, np.arange(3)) == {}
