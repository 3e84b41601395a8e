"""Learning rates and evaluation points by their closed forms."""

from math import cos, pi

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worldpm.training.config import ScheduleConfig
from worldpm.training.schedules import evaluation_steps, lr_factor


def factors(num_steps: int, **options) -> list[float]:
    schedule = ScheduleConfig(**options)
    return [lr_factor(schedule, step, num_steps) for step in range(num_steps)]


def test_the_papers_schedule_warms_up_over_a_tenth_and_stays():
    found = factors(1536)
    assert found[:154] == pytest.approx([(step + 1) / 154 for step in range(154)])
    assert set(found[153:]) == {1.0}


def test_cosine_falls_from_the_warm_up_to_its_floor():
    found = factors(101, kind="cosine", warmup_fraction=0.0, final_fraction=0.1)
    assert found == pytest.approx([0.1 + 0.45 * (1 + cos(pi * step / 100)) for step in range(101)])


def test_wsd_is_constant_until_the_last_part_and_then_linear_to_zero():
    found = factors(100, kind="wsd", decay_fraction=0.2)
    assert found[10:80] == [1.0] * 70
    assert found[80:] == pytest.approx([(99 - step) / 20 for step in range(80, 100)])


def test_a_decay_branch_shares_the_constant_part_of_the_longer_run():
    branch = factors(100, kind="wsd", decay_fraction=0.2)
    trunk = factors(100)
    assert branch[:80] == trunk[:80]


@given(st.integers(1, 500), st.sampled_from(["constant", "cosine", "wsd"]), st.floats(0, 1))
def test_the_factor_stays_between_zero_and_one(num_steps, kind, warmup):
    assert all(0 <= f <= 1 for f in factors(num_steps, kind=kind, warmup_fraction=warmup))


def test_evaluations_double_and_hold_beginning_and_end():
    assert evaluation_steps(20, 64, first_pairs=64) == [0, 1, 2, 4, 8, 16, 20]
    assert evaluation_steps(1536, 10_000, first_pairs=10_000)[-3:] == [512, 1024, 1536]


def test_points_between_doublings_are_geometric():
    steps = evaluation_steps(4096, 1, first_pairs=1024, points_per_doubling=2)
    assert steps == [0, 1024, 1449, 2048, 2897, 4096]


@given(st.integers(1, 300), st.integers(1, 100), st.integers(1, 5000))
def test_evaluations_are_increasing_and_within_the_run(num_steps, batch, first):
    steps = evaluation_steps(num_steps, batch, first_pairs=first)
    assert steps == sorted(set(steps))
    assert steps[0] == 0
    assert steps[-1] == num_steps
