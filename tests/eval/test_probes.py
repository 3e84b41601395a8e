"""The probes pass for a sound scorer, and catch one that looks at company or order."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from eval.aggregation import swap_probe
from eval.probes import run_probes
from worldpm.schema import Group, Pair
from worldpm.scoring import GroupScores


@pytest.fixture
def items(make_item):
    """Items whose right answer repeats the question's number."""
    return [
        make_item(str(index), responses=(f"it is {index}", "it is something else"))
        for index in range(20)
    ]


def _knows(prompt: str, response: str) -> float:
    return float(response.rsplit(maxsplit=1)[-1] == prompt.rsplit(maxsplit=1)[-1])


def test_a_sound_scorer_passes_and_loses_its_preference_under_other_prompts(items, make_scorer):
    probe = run_probes(items, make_scorer(_knows), num_items=10, tolerance=1e-6)
    assert probe["passed"]
    assert probe["num_items"] == 10
    assert probe["accuracy"] == 1
    # Nothing fits any more: all tie.
    assert probe["shuffled_prompt_accuracy"] == 0.5


def test_a_scorer_that_ignores_the_prompt_keeps_its_accuracy(items, make_scorer):
    probe = run_probes(items, make_scorer(), num_items=10, tolerance=1e-6)
    assert probe["shuffled_prompt_accuracy"] == probe["accuracy"]


class PositionBiased:
    """Adds a little for every place further back."""

    def score(self, groups: Sequence[Group]) -> list[GroupScores]:
        return [
            GroupScores(
                group.group_id,
                tuple(len(text) + 0.01 * place for place, text in enumerate(group.responses)),
                1,
                (1,) * len(group.responses),
                0,
                (0,) * len(group.responses),
            )
            for group in groups
        ]


def test_a_scorer_that_looks_at_the_order_fails(items):
    probe = run_probes(items, PositionBiased(), num_items=10, tolerance=1e-3)
    assert not probe["passed"]
    assert probe["duplicate_response_max_difference"] == pytest.approx(0.03)
    assert probe["order_max_difference"] == pytest.approx(0.01)


def test_the_same_items_are_probed_whatever_their_order(items, make_scorer):
    first, second = make_scorer(), make_scorer()
    run_probes(items, first, num_items=5, tolerance=1)
    run_probes(items[::-1], second, num_items=5, tolerance=1)
    assert [group.group_id for group in first.groups] == [group.group_id for group in second.groups]


def test_one_item_is_too_few_for_a_probe(items, make_scorer):
    assert run_probes(items[:1], make_scorer(), num_items=5, tolerance=1) == {}


def test_swapped_labels_leave_what_ties_and_rights_left(make_scored):

    probe = swap_probe(np.array([1.0, -1.0, 0.0, 2.0]))
    assert probe == {"accuracy": 0.5, "swapped_accuracy": 0.25, "tie_rate": 0.25}


def test_a_pair_swapped_twice_is_itself():
    assert Pair(0, 1).swap().swap() == Pair(0, 1)
