"""The typed configuration and DeepSpeed's dictionary agree."""

from pathlib import Path

import pytest

from worldpm.config import load_config
from worldpm.errors import ConfigError
from worldpm.training.config import TrainConfig
from worldpm.training.deepspeed_config import to_deepspeed
from worldpm.training.trajectory import trajectory

TINY = Path(__file__).parents[3] / "configs/train/tiny.yaml"


def load(*overrides: str) -> TrainConfig:
    return load_config(TrainConfig, TINY, overrides)


def test_the_paper_is_the_default():
    base = load_config(TrainConfig, TINY.parent / "base.yaml")
    assert base.optimizer.lr == 3e-6
    assert base.optimizer.weight_decay == 0.1
    assert (base.schedule.kind, base.schedule.warmup_fraction) == ("constant", 0.1)
    assert base.batch.pairs_per_step == 10_000
    assert base.batch.epochs == 1


def test_stage_three_with_offload():
    values = to_deepspeed(
        load(
            "deepspeed.stage=3",
            "deepspeed.offload_optimizer=cpu",
            "deepspeed.offload_parameters=nvme",
            "deepspeed.nvme_path=/fast",
            "model.precision=bfloat16",
        ),
        hidden_size=64,
    )
    zero = values["zero_optimization"]
    assert zero["stage"] == 3
    assert zero["offload_optimizer"] == {"device": "cpu", "pin_memory": True}
    assert zero["offload_param"] == {"device": "nvme", "pin_memory": False, "nvme_path": "/fast"}
    assert values["bf16"] == {"enabled": True}


def test_extra_is_merged_last_and_deep():
    values = to_deepspeed(
        load("deepspeed.extra={zero_optimization: {round_robin_gradients: true}}")
    )
    assert values["zero_optimization"]["round_robin_gradients"] is True
    assert values["zero_optimization"]["stage"] == 1


def test_no_clipping_is_zero():
    assert to_deepspeed(load("optimizer.max_grad_norm=null"))["gradient_clipping"] == 0.0


@pytest.mark.parametrize(
    ("override", "text"),
    [
        (["model.precision=bfloat16", "deepspeed.stage=0"], "needs deepspeed.stage 1 or more"),
        (["deepspeed.offload_parameters=cpu"], "needs stage 3"),
        (["model.init_from=somewhere"], "exclude each other"),
        (["model.architecture=null"], "needs init_from"),
        (["test_sets={validation: {path: x.jsonl, kind: safety}}"], "the name is taken"),
        (["loss.kind=vote_aware", "loss.label_smoothing=0.1"], "belong to kind bt"),
        (["optimizer.learning_rate=1"], "unknown key optimizer.learning_rate"),
    ],
)
def test_settings_that_do_not_fit_are_refused_by_name(override, text):
    with pytest.raises(ConfigError, match=text):
        load(*override)


def test_speed_settings_do_not_change_the_trajectory():
    fast = load("batch.token_budget=99", "model.attention=dense", "deepspeed.stage=2")
    assert trajectory(fast) == trajectory(load())
    assert trajectory(load("optimizer.lr=1e-4")) != trajectory(load())
