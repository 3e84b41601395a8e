"""One gradient, whatever the number of ranks, the ZeRO stage and the token budget."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.distributed import run_ranks

SCRIPT = Path(__file__).parent / "on_ranks.py"
NUM_STEPS = 2
# (ranks, stage, token budget); one row holds a whole step at 8192, a few groups at 700.
CASES = [(1, stage, 700 if stage % 2 else 8192) for stage in range(4)]
CASES += [(2, stage, budget) for stage in range(4) for budget in (8192, 700)]
CASES += [(4, stage, 8192 if stage % 2 else 700) for stage in range(4)]


@pytest.fixture(scope="module")
def steps(
    data_set: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[tuple[int, int, int], tuple[Path, list[Any]]]:
    """Folder of gradients, and loss, norm and number of micro-batches of each step, by case."""
    folder = tmp_path_factory.mktemp("gradients")
    found = {}
    for world_size in (1, 2, 4):
        cases = [case for case in CASES if case[0] == world_size]
        paths = {case: folder / "-".join(map(str, case)) for case in cases}
        overrides = {
            str(path): [f"deepspeed.stage={case[1]}", f"batch.token_budget={case[2]}"]
            for case, path in paths.items()
        }
        for path in paths.values():
            path.mkdir()
        results = run_ranks(
            SCRIPT,
            "gradients_of_steps",
            world_size,
            data=str(data_set),
            cases=overrides,
            num_steps=NUM_STEPS,
        )
        found |= {case: (path, results[0][str(path)]) for case, path in paths.items()}
    return found


REFERENCE = (1, 0, 8192)


@pytest.mark.parametrize("case", CASES[1:], ids=lambda case: "-".join(map(str, case)))
def test_loss_and_gradient_are_those_of_one_rank_and_one_row(steps, case):
    folder, values = steps[case]
    reference_folder, reference = steps[REFERENCE]
    for number in range(NUM_STEPS):
        # The second step also shows that the update of the first was the same.
        assert values[number][0] == pytest.approx(reference[number][0], abs=1e-6)
        expected = np.load(reference_folder / f"{number}.npz")
        found = np.load(folder / f"{number}.npz")
        assert sorted(found.files) == sorted(expected.files)
        for name in expected.files:
            scale = max(1.0, float(np.abs(expected[name]).max()))
            np.testing.assert_allclose(found[name], expected[name], rtol=0, atol=1e-6 * scale)


def test_the_norm_before_the_update_is_that_of_the_whole_gradient(steps):
    for case, (folder, values) in steps.items():
        gradients = np.load(folder / "0.npz")
        squares = sum(float((gradients[name].astype(np.float64) ** 2).sum()) for name in gradients)
        assert values[0][1] == pytest.approx(squares**0.5, rel=1e-5), case


def test_the_cases_do_differ_in_their_micro_batches(steps):
    assert steps[REFERENCE][1][0][2] == 1
    assert steps[1, 1, 700][1][0][2] > steps[2, 1, 700][1][0][2] > steps[4, 2, 700][1][0][2] > 1
