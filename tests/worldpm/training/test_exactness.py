"""One gradient, whatever the number of ranks, the ZeRO stage and the token budget."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.distributed import run_ranks

SCRIPT = Path(__file__).parent / "on_ranks.py"
SHORT = ["batch.max_pairs=200", "evaluation.splits=[]", "checkpoint.every_pairs=null"]
BUDGETS = [8192, 700]


def metrics(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def runs(data_set: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Every combination of ranks, stage and budget, one process group a number of ranks."""
    folder = tmp_path_factory.mktemp("runs")
    found = {}
    for world_size in (1, 2, 4):
        wanted = {}
        for stage in range(4):
            for budget in BUDGETS:
                name = f"{world_size}-{stage}-{budget}"
                found[name] = folder / name
                wanted[str(folder / name)] = [
                    f"deepspeed.stage={stage}", f"batch.token_budget={budget}", *SHORT,
                ]  # fmt: skip
        results = run_ranks(SCRIPT, "train_all", world_size, data=str(data_set), runs=wanted)
        assert all(code == 0 for result in results for code in result.values())
    return found


def test_losses_and_gradient_norms_are_equal_to_a_millionth(runs):
    expected = metrics(runs["1-0-8192"])
    assert len(expected) == 3
    for name, run in runs.items():
        for line, reference in zip(metrics(run), expected, strict=True):
            assert line["loss"] == pytest.approx(reference["loss"], abs=1e-6), name
            assert line["grad_norm"] == pytest.approx(reference["grad_norm"], rel=5e-6), name


def test_small_budgets_and_many_ranks_change_the_micro_batches(runs):
    assert metrics(runs["1-0-8192"])[0]["num_micro_batches"] == 1
    assert metrics(runs["1-0-700"])[0]["num_micro_batches"] > 4
    assert metrics(runs["4-0-700"])[0]["num_micro_batches"] > 1


def test_all_runs_consume_the_same_pairs(runs):
    records = [json.loads((run / "run.json").read_text()) for run in runs.values()]
    assert len({record["pair_chain"] for record in records}) == 1
    assert len({(record["num_pairs"], record["num_tokens"]) for record in records}) == 1
