"""Learning rates and evaluation points as pure functions of the step."""

from __future__ import annotations

import math

from worldpm.training.config import ScheduleConfig


def lr_factor(schedule: ScheduleConfig, step: int, num_steps: int) -> float:
    """The fraction of the peak learning rate at step `step` (from 0) of `num_steps`.

    The warm-up rises linearly and reaches 1 at its last step; the paper's is 10 % of the steps,
    then constant.
    """
    assert 0 <= step < num_steps, f"step {step} of {num_steps}"
    num_warmup = math.ceil(schedule.warmup_fraction * num_steps)
    if step < num_warmup:
        return (step + 1) / num_warmup
    if schedule.kind == "cosine":
        position = (step - num_warmup) / max(1, num_steps - num_warmup - 1)
        fall = (1 + math.cos(math.pi * min(position, 1.0))) / 2
        return schedule.final_fraction + (1 - schedule.final_fraction) * fall
    if schedule.kind == "wsd":
        num_decay = math.ceil(schedule.decay_fraction * num_steps)
        remaining = (num_steps - 1 - step) / num_decay if num_decay else 1.0
        fall = min(1.0, remaining)
        return schedule.final_fraction + (1 - schedule.final_fraction) * fall
    return 1.0


def evaluation_steps(
    num_steps: int,
    pairs_per_step: int,
    *,
    first_pairs: int,
    points_per_doubling: int = 1,
    regular: int | None = None,
) -> list[int]:
    """After which steps to evaluate: 0, the end, and where the pair count doubles in between.

    Pair counts are `first_pairs` × 2^(i / points_per_doubling); each is reached at the first step
    that has consumed as many. `regular` adds its multiples.
    """
    steps = {0, num_steps} | set(range(0, num_steps, regular) if regular else ())
    point = 0
    while True:
        pairs = first_pairs * 2 ** (point / points_per_doubling)
        step = math.ceil(pairs / pairs_per_step)
        if step >= num_steps:
            return sorted(steps)
        steps.add(step)
        point += 1
