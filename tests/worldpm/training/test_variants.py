"""Options that must not change what is learned, and options that must."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from tests.distributed import run_ranks
from worldpm.run_record import RunRecord, read_evals, read_metrics
from worldpm.training.checkpointing import list_checkpoints

SCRIPT = Path(__file__).parent / "on_ranks.py"
SHORT = [
    "batch.pairs_per_step=40",
    "batch.max_pairs=160",
    "evaluation.splits=[]",
    "checkpoint.every_pairs=null",
]
VARIANTS = {
    "plain": [],
    "activation_checkpointing": ["model.activation_checkpointing=true", "deepspeed.stage=3"],
    "offload": [
        "deepspeed.stage=2", "deepspeed.offload_optimizer=cpu", "optimizer.implementation=torch",
    ],
    "offload_parameters": [
        "deepspeed.stage=3", "deepspeed.offload_optimizer=cpu", "deepspeed.offload_parameters=cpu",
        "optimizer.implementation=torch",
    ],
    "bf16": ["model.precision=bfloat16"],
    "bf16_stage_3": ["model.precision=bfloat16", "deepspeed.stage=3"],
    "dense_attention": ["model.attention=dense"],
    "zeros_head": ["model.head.init=zeros"],
    "fast_head": ["optimizer.head_lr_multiplier=10"],
    "vote_aware": ["loss.kind=vote_aware"],
    "plackett_luce": ["loss.kind=plackett_luce", "batch.token_budget=500"],
    "centring": ["loss.centring=0.1"],
    "trunk": ["checkpoint.every_pairs=40", "checkpoint.keep_last=9"],
}  # fmt: skip
SAME = ("activation_checkpointing", "offload", "offload_parameters", "dense_attention", "trunk")


@pytest.fixture(scope="module")
def runs(data_set: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("variants")
    overrides = {str(folder / name): [*SHORT, *lines] for name, lines in VARIANTS.items()}
    trunk = folder / "trunk/checkpoints/step-00000002"
    overrides[str(folder / "branch")] = [
        *SHORT, "schedule.kind=wsd", "schedule.decay_fraction=0.5",
        f"checkpoint.branch_from={trunk}",
    ]  # fmt: skip
    overrides[str(folder / "epochs")] = [
        *SHORT[:1], *SHORT[2:], "batch.epochs=2", "checkpoint.staging=" + str(folder / "staging"),
        "checkpoint.every_pairs=80",
    ]  # fmt: skip
    overrides[str(folder / "measured")] = [
        *SHORT[:2], "evaluation.splits=[validation]", "evaluation.max_pairs_per_set=20",
        f"test_sets={{odd: {{path: {data_set}/adversarial.jsonl, kind: adversarial}}}}",
    ]  # fmt: skip
    results = run_ranks(SCRIPT, "train_all", 1, data=str(data_set), runs=overrides)
    assert set(results[0].values()) == {0}
    return {Path(name).name: Path(name) for name in overrides}


def losses(run: Path) -> list[float]:
    return [line["bt_loss"] for line in read_metrics(run)]


@pytest.mark.parametrize("name", SAME)
def test_options_of_memory_and_speed_leave_the_losses_alone(runs, name):
    assert losses(runs[name]) == pytest.approx(losses(runs["plain"]), abs=1e-5)


@pytest.mark.parametrize("name", ["bf16", "bf16_stage_3"])
def test_bf16_follows_fp32_closely(runs, name):
    assert losses(runs[name]) == pytest.approx(losses(runs["plain"]), abs=0.02)


def test_a_head_of_zeros_begins_at_ln_2_exactly(runs):
    assert losses(runs["zeros_head"])[0] == pytest.approx(math.log(2), abs=1e-7)


@pytest.mark.parametrize("name", ["fast_head", "vote_aware", "plackett_luce", "centring"])
def test_options_of_learning_change_what_is_learned_and_not_the_first_loss(runs, name):
    found, plain = losses(runs[name]), losses(runs["plain"])
    assert found[0] == pytest.approx(plain[0], abs=1e-6)
    assert abs(found[-1] - plain[-1]) > 1e-4


def test_a_decay_branch_continues_the_trunk_and_lets_the_rate_fall(runs):
    lines = list(read_metrics(runs["branch"]))
    assert [line["step"] for line in lines] == [3, 4]
    trunk = list(read_metrics(runs["trunk"]))
    assert lines[0]["bt_loss"] == trunk[2]["bt_loss"]
    assert lines[-1]["lr"] < trunk[-1]["lr"]
    assert RunRecord.read(runs["branch"]).pair_chain == RunRecord.read(runs["trunk"]).pair_chain


def test_two_epochs_consume_every_pair_twice(runs):
    record = RunRecord.read(runs["epochs"])
    lines = list(read_metrics(runs["epochs"]))
    assert record.num_pairs == lines[-1]["num_pairs"]
    assert record.num_steps == len(lines) == 2 * (len(lines) // 2)
    assert record.num_pairs == 2 * lines[len(lines) // 2 - 1]["num_pairs"]


def test_staged_checkpoints_arrive_whole_and_the_staging_folder_is_emptied(runs):
    checkpoints = list_checkpoints(runs["epochs"] / "checkpoints")
    assert len(checkpoints) == 2
    assert not any(checkpoint.damaged_files() for checkpoint in checkpoints)
    assert not list((runs["epochs"].parent / "staging").iterdir())


def test_test_sets_are_measured_at_both_ends_and_the_cap_is_recorded(runs):
    records = list(read_evals(runs["measured"]))
    assert records[0].num_pairs == 0
    assert records[-1].num_pairs == RunRecord.read(runs["measured"]).num_pairs
    for record in records:
        assert record.test_sets["odd"].kind == "adversarial"
        assert record.test_sets["validation"].kind == "in_distribution"
        for result in record.test_sets.values():
            assert result.num_pairs <= 20
            assert result.num_dropped > 0
    first, last = (record.test_sets["validation"] for record in (records[0], records[-1]))
    assert last.bt_loss < first.bt_loss
    assert first.length_baseline_accuracy == last.length_baseline_accuracy


def test_every_log_line_says_how_fast_and_how_much_longer(runs):
    for line in read_metrics(runs["plain"]):
        assert line["tokens_per_s"] > line["pairs_per_s"] > 0
        assert 0 <= line["padding_share"] < 1
        for key in ("input_stall_s", "memory_bytes", "eta_s", "grad_norm", "lr", "accuracy"):
            assert line[key] >= 0
        assert line["mfu"] is None


def test_bf16_keeps_fp32_master_weights_and_fp32_rewards(data_set, tmp_path):
    found = run_ranks(
        SCRIPT, "describe_precision", data=str(data_set), run=str(tmp_path / "run"),
        overrides=["model.precision=bfloat16"],
    )[0]  # fmt: skip
    assert found["weights"] == ["torch.bfloat16"]
    assert found["masters"] == ["torch.float32"]
    assert found["rewards"] == ["torch.float32"]
    assert found["distinct"] == [True]


def test_the_run_record_is_json_with_all_of_the_configuration(runs):
    record = json.loads((runs["plain"] / "run.json").read_text())
    assert record["status"] == "completed"
    assert record["config"]["batch"]["pairs_per_step"] == 40
    assert record["flops"] > 0
    assert record["environment"]["packages"]["deepspeed"]
