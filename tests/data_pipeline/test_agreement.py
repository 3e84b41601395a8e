"""Krippendorff's alpha gives the values of its author's worked example."""

from __future__ import annotations

from random import Random

import pytest

from data_pipeline.agreement import krippendorff_alpha

# Krippendorff (2011), section D: four observers, twelve units; 0 stands for a missing value.
OBSERVERS = (
    (1, 2, 3, 3, 2, 1, 4, 1, 2, 0, 0, 0),
    (1, 2, 3, 3, 2, 2, 4, 1, 2, 5, 0, 3),
    (0, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, 0),
    (1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, 0),
)
UNITS = [[value for value in unit if value] for unit in zip(*OBSERVERS, strict=True)]


@pytest.mark.parametrize(
    ("level", "expected"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)]
)
def test_the_published_example(level: str, expected: float) -> None:
    assert krippendorff_alpha(UNITS, level) == pytest.approx(expected, abs=5e-4)  # type: ignore[arg-type]


def test_agreement_chance_and_contradiction() -> None:
    assert krippendorff_alpha([["a", "a"], ["b", "b"]], "nominal") == 1.0
    contradiction = krippendorff_alpha([["a", "b"]] * 50, "nominal")
    assert contradiction is not None
    assert contradiction < 0
    rng = Random(0)
    chance = krippendorff_alpha(
        [[rng.randrange(2), rng.randrange(2)] for _ in range(20_000)], "nominal"
    )
    assert chance == pytest.approx(0, abs=0.03)


def test_nothing_to_compare_has_no_alpha() -> None:
    assert krippendorff_alpha([[1], [2]], "nominal") is None
    assert krippendorff_alpha([[1, 1], [1, 1, 1]], "nominal") is None
