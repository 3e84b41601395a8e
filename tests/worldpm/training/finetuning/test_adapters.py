"""Adapters: an update that begins at zero, a head trained whole, a merge that loses neither."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from tests.worldpm.training.finetuning.running import (
    SHAPE,
    measured_scores,
    run_finetune,
    scores_of,
)
from worldpm.errors import CheckpointError, ConfigError
from worldpm.modeling.preference_model import PreferenceModel
from worldpm.modeling.tensor_files import read_tensor, read_tensor_index
from worldpm.training.adapters import DOWN, UP, add_adapter, merge_adapter
from worldpm.training.config import AdapterConfig, OptimizerConfig
from worldpm.training.finetuning.comparison import kept_step
from worldpm.training.flops import training_flops
from worldpm.training.parameter_groups import parameter_groups

ARCHITECTURE = {"model_type": "qwen2", "vocab_size": 384, **SHAPE}
ADAPTER = AdapterConfig(rank=4, alpha=8.0)
ROW = {
    "input_ids": torch.arange(12),
    "position_ids": torch.tensor([0, 1, 2, 3, 4, 5, 6, 7, 4, 5, 6, 7]),
    "segments": torch.tensor([[0, 4, 0, 0], [4, 8, 0, 4], [8, 12, 0, 4]]),
    "reward_index": torch.tensor([7, 11]),
}


@pytest.fixture
def adapted(released_folder: Path) -> PreferenceModel:
    model = PreferenceModel.from_pretrained(released_folder)
    add_adapter(model, ADAPTER, seed=3)
    return model


def trained_state(model: PreferenceModel) -> dict[str, torch.Tensor]:
    """What the engine gathers: the trainable weights."""
    return {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}


def test_an_adapter_changes_no_reward_before_the_first_step(
    adapted: PreferenceModel, released_folder: Path
) -> None:
    with torch.no_grad():
        plain = PreferenceModel.from_pretrained(released_folder)(**ROW)
        assert torch.equal(adapted(**ROW), plain)


def test_only_adapters_and_the_whole_head_are_trained(adapted: PreferenceModel) -> None:
    names = {name for name, p in adapted.named_parameters() if p.requires_grad}
    assert {name for name in names if not name.endswith((DOWN, UP))} == {
        "score.0.weight",
        "score.0.bias",
        "score.2.weight",
        "score.2.bias",
    }
    # Two layers with seven adapted projections each, of two factors.
    assert len(names) == 4 + 2 * 7 * 2
    grouped = [p for group in parameter_groups(adapted, OptimizerConfig()) for p in group["params"]]
    assert len(grouped) == len(names)


def test_a_merged_model_gives_the_adapted_models_rewards(
    adapted: PreferenceModel, released_folder: Path
) -> None:
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in trained_state(adapted).values():
            parameter.add_(torch.randn_like(parameter) * 0.05)
        expected = adapted(**ROW)
    merged = merge_adapter(trained_state(adapted), released_folder, ADAPTER, torch.float32)
    plain = PreferenceModel.from_pretrained(released_folder)
    plain.load_state_dict(merged, strict=True)
    with torch.no_grad():
        torch.testing.assert_close(plain(**ROW), expected, atol=1e-5, rtol=1e-5)


def test_what_was_frozen_is_merged_unchanged(
    adapted: PreferenceModel, released_folder: Path
) -> None:
    entries = read_tensor_index(released_folder)
    merged = merge_adapter(trained_state(adapted), released_folder, ADAPTER, torch.float32)
    assert merged.keys() == entries.keys()
    for name in (
        "model.embed_tokens.weight",
        "model.norm.weight",
        "model.layers.0.mlp.up_proj.weight",
    ):
        assert torch.equal(merged[name], read_tensor(entries[name], name))


def test_a_trained_weight_that_finds_no_place_is_an_error(
    adapted: PreferenceModel, released_folder: Path
) -> None:
    trained = trained_state(adapted) | {f"model.layers.9.mlp.up_proj.{UP}": torch.zeros(48, 4)}
    with pytest.raises(CheckpointError, match=r"layers\.9"):
        merge_adapter(trained, released_folder, ADAPTER, torch.float32)


def test_a_misspelt_layer_is_refused(released_folder: Path) -> None:
    model = PreferenceModel.from_pretrained(released_folder)
    config = AdapterConfig(target_modules=("q_porj",))
    with pytest.raises(ConfigError, match="q_porj"):
        add_adapter(model, config, seed=0)


def test_frozen_weights_take_four_flops_a_token_and_adapters_six() -> None:
    shape = ARCHITECTURE | {"num_hidden_layers": 12}
    adapter = AdapterConfig(rank=2)
    model = PreferenceModel.from_architecture(shape, seed=0)
    add_adapter(model, adapter, seed=0)
    model.model.set_attn_implementation("eager")
    with FlopCounterMode(display=False) as counter:
        hidden = model.model(input_ids=torch.arange(24)[None]).last_hidden_state
        hidden.sum().backward()
    expected = training_flops(shape, num_tokens=24, num_attended=24 * 24, adapter=adapter)
    # torch counts the whole square of attention, and no gradient below the first adapters.
    assert counter.get_total_flops() == pytest.approx(expected, rel=0.03)


def test_a_run_with_adapters_leaves_a_checkpoint_that_needs_none(
    base_folder: Path, preference_file: Path, test_file: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    further = ["model.adapter.rank=4", "optimizer.lr=2e-2", "batch.epochs=6"]
    result = run_finetune(base_folder, preference_file, test_file, run, *further)
    assert result.exit_code == 0
    stored = read_tensor_index(base_folder)
    merged = read_tensor_index(run / "model")
    assert merged.keys() == {n for n in stored if n != "lm_head.weight"} | {"score.weight"}
    name = "model.embed_tokens.weight"
    assert torch.equal(read_tensor(merged[name], name), read_tensor(stored[name], name))
    np.testing.assert_allclose(
        measured_scores(run, kept_step(run)), scores_of(run / "model", test_file), rtol=1e-4
    )
    result = json.loads((run / "comparison.json").read_text())["held_out"]
    assert result["gain"]["accuracy_interval"][0] > 0


@pytest.mark.skipif(torch.cuda.is_available(), reason="the message is for machines without a GPU")
def test_four_bit_weights_are_refused_without_a_gpu(
    base_folder: Path, preference_file: Path, test_file: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="need a GPU"):
        run_finetune(
            base_folder, preference_file, test_file, tmp_path / "run", "model.adapter.kind=qlora"
        )
