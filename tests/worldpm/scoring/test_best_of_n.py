"""Best-of-N against enumeration, closed forms, and the command's files."""

from __future__ import annotations

import json
import math
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from worldpm.cli.best_of_n import command
from worldpm.errors import InputError
from worldpm.scoring.best_of_n import (
    Average,
    Candidates,
    CurvePoint,
    best_of_n_curve,
    default_sizes,
    fit_overoptimisation,
    kl_bound,
    selection_probabilities,
)


def by_enumeration(scores: list[float], n: int) -> list[float]:
    """Draw every subset; equal best scores share the pick."""
    counts = [0.0] * len(scores)
    subsets = list(combinations(range(len(scores)), n))
    for subset in subsets:
        best = max(scores[index] for index in subset)
        winners = [index for index in subset if scores[index] == best]
        for winner in winners:
            counts[winner] += 1 / len(winners)
    return [count / len(subsets) for count in counts]


@given(scores=st.lists(st.integers(0, 5), min_size=1, max_size=7), data=st.data())
def test_pick_probabilities_are_those_of_all_subsets(
    scores: list[int], data: st.DataObject
) -> None:
    n = data.draw(st.integers(1, len(scores)))
    probabilities = selection_probabilities(np.array(scores, float), n)
    assert probabilities.tolist() == pytest.approx(by_enumeration(list(map(float, scores)), n))


def test_one_of_one_is_far_from_nothing_and_kl_grows_like_log_n() -> None:
    assert kl_bound(1) == 0
    assert kl_bound(2) == pytest.approx(math.log(2) - 0.5)
    assert kl_bound(256) == pytest.approx(4.549083, abs=1e-6)


def test_the_best_of_n_uniform_candidates_expects_n_over_n_plus_one() -> None:
    """Order statistics: n of N equally spaced scores 1 … N expect n (N + 1) / (n + 1)."""
    prompt = Candidates(np.arange(1.0, 101), np.ones(100))
    for point in best_of_n_curve([prompt], [1, 2, 16, 100]):
        assert point.score.mean == pytest.approx(point.n * 101 / (point.n + 1))
        assert point.score.standard_error is None


def test_lengths_and_gold_follow_the_picks() -> None:
    prompts = [
        Candidates(np.array([0.0, 1.0]), np.array([10.0, 20.0]), np.array([5.0, 3.0])),
        Candidates(np.array([1.0, 0.0]), np.array([30.0, 10.0]), np.array([1.0, 2.0])),
    ]
    one, two = best_of_n_curve(prompts, [1, 2])
    assert (one.length.mean, two.length.mean) == (17.5, 25.0)
    assert one.gold is not None
    assert two.gold is not None
    assert (one.gold.mean, two.gold.mean) == (2.75, 2.0)
    assert two.gold.standard_error == pytest.approx(1.0)


def test_a_planted_overoptimisation_curve_is_recovered() -> None:
    alpha, beta = 1.3, 0.2
    curve = []
    for n in (1, 2, 4, 16, 64):
        distance = math.sqrt(kl_bound(n))
        gold = 0.5 + distance * (alpha - beta * distance)
        zero = Average(0.0, None)
        curve.append(CurvePoint(n, kl_bound(n), zero, zero, Average(gold, None)))
    fit = fit_overoptimisation(curve)
    assert fit is not None
    assert (fit.alpha, fit.beta) == (pytest.approx(alpha), pytest.approx(beta))


def test_sizes_are_powers_of_two_and_the_whole() -> None:
    assert default_sizes(1) == [1]
    assert default_sizes(6) == [1, 2, 4, 6]
    assert default_sizes(256)[-2:] == [128, 256]


def test_more_than_there_are_cannot_be_drawn() -> None:
    with pytest.raises(InputError, match="a prompt has only 2 candidates"):
        best_of_n_curve([Candidates(np.zeros(2), np.ones(2))], [3])
    with pytest.raises(InputError, match="no prompt"):
        best_of_n_curve([], [1])


def write_candidates(path: Path, gold: object) -> None:
    lines = [
        {
            "id": f"q{index}",
            "prompt": [{"role": "user", "content": f"Question {index}?"}],
            "responses": ["short", "a longer answer", "x " * index],
            "gold": gold,
        }
        for index in range(3)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_the_command_writes_picks_and_curve(tiny_checkpoint: Path, tmp_path: Path) -> None:
    source, target = tmp_path / "in.jsonl", tmp_path / "out"
    write_candidates(source, [1.0, 2.0, 3.0])
    arguments = [str(tiny_checkpoint), str(source), str(target), "--gold-column", "gold"]
    result = CliRunner().invoke(command, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    scores = [json.loads(line) for line in (target / "scores.jsonl").read_text().splitlines()]
    picks = [json.loads(line) for line in (target / "picks.jsonl").read_text().splitlines()]
    for line, pick in zip(scores, picks, strict=True):
        assert pick["id"] == line["id"]
        assert pick["score"] == max(line["scores"]) == line["scores"][pick["index"]]
    curve = json.loads((target / "curve.json").read_text())["curve"]
    assert [point["n"] for point in curve] == [1, 2, 3]
    assert curve[0]["gold"]["mean"] == pytest.approx(2.0)
    means = [point["score"]["mean"] for point in curve]
    assert means == sorted(means)
    assert means[-1] == pytest.approx(np.mean([pick["score"] for pick in picks]))


def test_gold_scores_must_fit_the_candidates(tiny_checkpoint: Path, tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    arguments = [str(tiny_checkpoint), str(source), str(tmp_path / "out"), "--gold-column", "gold"]
    for gold, message in (([1.0], "not one gold score a candidate"), (None, "must be a list")):
        write_candidates(source, gold)
        result = CliRunner().invoke(command, arguments)
        assert isinstance(result.exception, InputError)
        assert message in str(result.exception)
    assert not (tmp_path / "out" / "picks.jsonl").exists()
