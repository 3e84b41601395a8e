"""The presets hold the paper's settings, and the plan of memory its closed forms."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.worldpm.training.finetuning.running import ROOT, SHAPE
from worldpm.cli.finetune import with_suite
from worldpm.config import load_config
from worldpm.errors import ConfigError
from worldpm.modeling.preference_model import PreferenceModel
from worldpm.training.adapters import add_adapter
from worldpm.training.architecture import read_architecture
from worldpm.training.config import AdapterConfig, TrainConfig
from worldpm.training.finetuning.config import FinetuneConfig
from worldpm.training.finetuning.memory import memory_per_gpu
from worldpm.training.finetuning.plan import memory_lines
from worldpm.training.flops import count_adapter

ARCHITECTURE = {"model_type": "qwen2", "vocab_size": 384, **SHAPE}


def preset(name: str, *settings: str) -> FinetuneConfig:
    """One of the published presets."""
    return load_config(FinetuneConfig, ROOT / f"configs/finetune/{name}.yaml", settings)


# WorldPM, section 4: batch 128 for HelpSteer2, 512 for the others; at least two epochs; the
# checkpoint of the lowest loss on held-out pairs of the same set.
@pytest.mark.parametrize(
    ("name", "batch", "source"),
    [
        ("helpsteer2", 128, "helpsteer2"),
        ("ultrafeedback", 512, "ultrafeedback"),
        ("rlhflow", 512, "conversations"),
        ("hh-rlhf", 512, "hh_rlhf"),
    ],
)
def test_a_preset_is_the_papers(name: str, batch: int, source: str) -> None:
    config = preset(name)
    assert config.batch.pairs_per_step == batch
    assert config.batch.epochs >= 2
    assert config.evaluation.keep_best == "validation"
    assert config.model.head.on_load == "keep"
    assert config.preferences.source.format == source
    assert config.optimizer.lr == 3e-6


def test_a_fine_tuning_run_is_a_run_of_the_trainer() -> None:
    training = preset("helpsteer2").training()
    assert type(training) is TrainConfig
    assert training.data.path == "runs/finetune-helpsteer2/data"


def test_the_weights_of_adapters_are_counted_as_they_are_built() -> None:
    adapter = AdapterConfig(rank=4, target_modules=("q_proj", "down_proj"))
    model = PreferenceModel.from_architecture(ARCHITECTURE, seed=0)
    add_adapter(model, adapter, seed=0)
    built = sum(p.numel() for p in model.model.parameters() if p.requires_grad)
    assert count_adapter(ARCHITECTURE, adapter) == built
    # Two layers; q_proj maps 32 to 32, down_proj 48 to 32.
    assert built == 2 * 4 * (32 + 32 + 48 + 32)


def test_stage_three_gives_each_gpu_its_share_of_the_frozen_weights() -> None:
    config = preset("worldpm-72b-lora")
    architecture = read_architecture(ROOT / "configs/model/qwen2.5-72b.yaml")
    one, eight = (memory_per_gpu(config, architecture, gpus) for gpus in (1, 8))
    assert one["frozen weights"] == pytest.approx(8 * eight["frozen weights"])
    # 71.46 G weights of the backbone in bf16.
    assert one["frozen weights"] / 1e9 == pytest.approx(142.9, abs=0.1)


def test_four_bit_weights_of_72b_take_half_a_byte_and_their_constants() -> None:
    config = preset("worldpm-72b-qlora")
    architecture = read_architecture(ROOT / "configs/model/qwen2.5-72b.yaml")
    terms = memory_per_gpu(config, architecture, 8)
    # 70.2 G quantised at 4.127 bits, the embedding, norms and biases in bf16.
    assert terms["frozen weights"] / 1e9 == pytest.approx(70.2 * 4.127 / 8 + 2.5, abs=0.1)


@pytest.mark.parametrize("name", ["worldpm-72b-lora", "worldpm-72b-qlora"])
def test_one_node_of_80_gb_is_planned_for_72b(name: str) -> None:
    architecture = read_architecture(ROOT / "configs/model/qwen2.5-72b.yaml")
    lines = memory_lines(preset(name), architecture)
    assert any("H100 80 GB: fits" in line for line in lines)


def test_the_plan_names_the_host_memory_of_eight_bf16_copies() -> None:
    architecture = read_architecture(ROOT / "configs/model/qwen2.5-72b.yaml")
    *_, line = memory_lines(preset("worldpm-72b-qlora"), architecture)
    # 71.5 G weights with the two-layer head, two bytes each.
    assert "8 × 143 GB = 1,144 GB" in line


def test_four_bit_weights_are_not_partitioned() -> None:
    with pytest.raises(ConfigError, match=r"deepspeed\.stage 1 or 2"):
        preset("worldpm-72b-qlora", "deepspeed.stage=3")


def test_training_every_weight_of_72b_does_not_fit_one_node() -> None:
    architecture = read_architecture(ROOT / "configs/model/qwen2.5-72b.yaml")
    config = preset("worldpm-72b-lora", "model.adapter=null")
    assert "H200 141 GB: does NOT fit" in memory_lines(config, architecture)[-1]


@pytest.mark.shared_data
def test_the_benchmarks_of_a_suite_become_test_sets(shared_data: Path, tmp_path: Path) -> None:
    suite = tmp_path / "suite.yaml"
    suite.write_text("suite: s\nbenchmarks: [evalbiasbench]\ndata_dir: d\noutput_dir: o\n")
    settings = [
        f"output_dir={tmp_path / 'run'}",
        f"suite={{config: {suite}, data_dir: {shared_data / 'eval'}}}",
    ]
    config = with_suite(preset("tiny", *settings))
    assert config.test_sets["evalbiasbench"].kind == "adversarial"
    assert config.test_sets["evalbiasbench"].path.is_file()
