"""Checkpoints: every tensor accounted for, the head never random, the contract's every field."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from worldpm.artifacts import read_json, write_json
from worldpm.chat_template import Encoder
from worldpm.errors import CheckpointError, ConfigError
from worldpm.modeling.checkpoint_card import CheckpointCard
from worldpm.modeling.checkpoint_io import load_checkpoint, save_portable, save_qwen2_rm
from worldpm.modeling.preference_model import PreferenceModel

MakeArchitecture = Callable[[str], dict[str, Any]]


def edit_tensors(folder: Path, edit: Callable[[dict[str, torch.Tensor]], None]) -> None:
    tensors = load_file(folder / "model.safetensors")
    edit(tensors)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def state_of(folder: Path) -> dict[str, torch.Tensor]:
    return PreferenceModel.from_pretrained(folder).state_dict()


def test_a_saved_head_and_backbone_come_back_bit_for_bit(
    tmp_path: Path, own_encoder: Encoder, tiny_architecture: MakeArchitecture
) -> None:
    model = PreferenceModel.from_architecture(tiny_architecture("qwen2"), seed=1)
    save_portable(model, own_encoder, tmp_path / "model")
    loaded = load_checkpoint(tmp_path / "model")
    assert loaded.model.head_state == "loaded"
    assert model.head_state == "initialised"
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, loaded.model.state_dict()[name]), name


def test_shards_hold_the_same_tensors_as_one_file(
    tmp_path: Path, own_encoder: Encoder, tiny_architecture: MakeArchitecture
) -> None:
    model = PreferenceModel.from_architecture(tiny_architecture("qwen2"), seed=1)
    save_portable(model, own_encoder, tmp_path / "model", shard_bytes=50_000)
    assert len(list((tmp_path / "model").glob("model-*-of-*.safetensors"))) > 3
    loaded = state_of(tmp_path / "model")
    assert all(torch.equal(tensor, loaded[name]) for name, tensor in model.state_dict().items())


def test_a_bf16_backbone_keeps_its_type_and_an_fp32_head(
    tmp_path: Path, own_encoder: Encoder, tiny_architecture: MakeArchitecture
) -> None:
    model = PreferenceModel.from_architecture(
        tiny_architecture("qwen2"), seed=1, dtype=torch.bfloat16
    )
    save_portable(model, own_encoder, tmp_path / "model")
    tensors = load_file(tmp_path / "model" / "model.safetensors")
    assert tensors.pop("score.weight").dtype == torch.float32
    assert {tensor.dtype for tensor in tensors.values()} == {torch.bfloat16}
    assert read_json(tmp_path / "model" / "config.json")["torch_dtype"] == "bfloat16"


def test_config_has_every_field_of_the_contract(tiny_checkpoint: Path) -> None:
    config = read_json(tiny_checkpoint / "config.json")
    card = CheckpointCard.read(tiny_checkpoint)
    expected = {
        "architectures": ["Qwen2ForSequenceClassification"],
        "model_type": "qwen2",
        "id2label": {"0": "LABEL_0"},
        "label2id": {"LABEL_0": 0},
        "problem_type": "regression",
        "pad_token_id": card.pad_id,
        "eos_token_id": card.reward_id,
        "rope_theta": 1e6,
        "rope_parameters": {"rope_theta": 1e6, "rope_type": "default"},
        "dtype": "float32",
        "torch_dtype": "float32",
        "value_head_prefix": "score",
        "token_classification_bias": False,
    }
    assert {key: config[key] for key in expected} == expected
    assert card.pad_id != card.reward_id
    tokenizer = read_json(tiny_checkpoint / "tokenizer_config.json")
    assert tokenizer["tokenizer_class"] == "PreTrainedTokenizerFast"
    jinja = (tiny_checkpoint / "chat_template.jinja").read_text()
    assert tokenizer["chat_template"] == jinja
    assert not list(tiny_checkpoint.glob("*.bin"))


def test_mean_and_deviation_stand_where_openrlhf_reads_them(
    tmp_path: Path, own_encoder: Encoder, tiny_architecture: MakeArchitecture
) -> None:
    model = PreferenceModel.from_architecture(tiny_architecture("qwen2"), seed=1)
    save_portable(model, own_encoder, tmp_path / "m", score_mean=0.5, score_std=2.0, max_tokens=99)
    config = read_json(tmp_path / "m" / "config.json")
    assert (config["mean"], config["std"]) == (0.5, 2.0)
    card = CheckpointCard.read(tmp_path / "m")
    assert (card.score_mean, card.score_std, card.max_tokens) == (0.5, 2.0, 99)


def test_rope_of_llama_3_survives(
    tmp_path: Path, own_encoder: Encoder, tiny_architecture: MakeArchitecture
) -> None:
    rope = {
        "rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0, "low_freq_factor": 1.0,
        "high_freq_factor": 4.0, "original_max_position_embeddings": 64,
    }  # fmt: skip
    architecture = tiny_architecture("llama") | {"rope_parameters": rope}
    del architecture["rope_theta"]
    model = PreferenceModel.from_architecture(architecture, seed=1)
    save_portable(model, own_encoder, tmp_path / "model")
    config = read_json(tmp_path / "model" / "config.json")
    assert config["rope_scaling"]["rope_type"] == "llama3"
    assert config["rope_theta"] == 5e5
    loaded = PreferenceModel.from_pretrained(tmp_path / "model")
    assert loaded.config.rope_parameters == rope
    assert torch.equal(loaded.model.rotary_emb.inv_freq, model.model.rotary_emb.inv_freq)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda t: t.pop("score.weight"), "no score head: the tensor score.weight is missing"),
        (lambda t: t.pop("model.norm.weight"), "the tensor model.norm.weight is missing"),
        (lambda t: t.update({"reward.x": torch.zeros(1)}), "the tensor reward.x belongs to"),
        (lambda t: t.update({"score.bias": torch.ones(1)}), "the tensor score.bias is a head"),
        (lambda t: t.update({"score.weight": torch.zeros(2, 64)}), r"has the shape \[2, 64\]"),
        (
            lambda t: t.update({"v_head.summary.weight": torch.zeros(1, 64)}),
            "more than one head: score.weight, v_head.summary.weight",
        ),
        (
            lambda t: t.update({"v_head.summary.weight": t.pop("score.weight")}),
            "v_head.summary.weight is a head of the layout v-head.*worldpm convert",
        ),
        (
            lambda t: t.update({"score.0.weight": t.pop("score.weight")}),
            r"score.0.weight has the shape \[1, 64\]",
        ),
    ],
)
def test_a_tensor_that_is_missing_or_unknown_is_named(
    tiny_checkpoint: Path, edit: Callable[[dict[str, torch.Tensor]], None], message: str
) -> None:
    edit_tensors(tiny_checkpoint, edit)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(tiny_checkpoint)


def test_a_language_model_gets_a_head_only_when_asked(tiny_checkpoint: Path) -> None:
    def without_head(tensors: dict[str, torch.Tensor]) -> None:
        del tensors["score.weight"]
        tensors["lm_head.weight"] = torch.zeros(384, 64)

    edit_tensors(tiny_checkpoint, without_head)
    for head in ("keep", "reset"):
        with pytest.raises(CheckpointError, match="only when asked"):
            PreferenceModel.from_pretrained(tiny_checkpoint, head=head)
    model = PreferenceModel.from_pretrained(tiny_checkpoint, head="new", seed=3)
    assert model.head_state == "initialised"
    again = PreferenceModel.from_pretrained(tiny_checkpoint, head="new", seed=3)
    assert torch.equal(model.score.weight, again.score.weight)


def test_a_trained_head_is_thrown_away_only_when_asked(tiny_checkpoint: Path) -> None:
    trained = PreferenceModel.from_pretrained(tiny_checkpoint).score.weight
    with pytest.raises(CheckpointError, match="has a trained head"):
        PreferenceModel.from_pretrained(tiny_checkpoint, head="new")
    reset = PreferenceModel.from_pretrained(tiny_checkpoint, head="reset")
    assert reset.head_state == "reset"
    assert not torch.equal(reset.score.weight, trained)


@pytest.mark.parametrize(("init", "deviation"), [("inverse", 1 / 65), ("inverse_sqrt", 65**-0.5)])
def test_a_new_head_has_the_named_spread(
    tiny_architecture: MakeArchitecture, init: Any, deviation: float
) -> None:
    weights = torch.cat(
        [
            PreferenceModel.from_architecture(
                tiny_architecture("qwen2"), seed=seed, head_init=init
            ).score.weight.flatten()
            for seed in range(20)
        ]
    )
    assert weights.std().item() == pytest.approx(deviation, rel=0.1)


def test_a_default_head_begins_near_ln_2(
    tiny_architecture: MakeArchitecture,
) -> None:
    from worldpm.losses import bradley_terry_loss

    wide = tiny_architecture("qwen2") | {"hidden_size": 1024, "num_hidden_layers": 1}
    model = PreferenceModel.from_architecture(wide, seed=0)
    ids = torch.randint(0, 384, (410,), generator=torch.Generator().manual_seed(0))
    starts = range(10, 410, 10)
    segments = torch.tensor([[0, 10, 0, 0], *([start, start + 10, 0, 10] for start in starts)])
    positions = torch.cat([torch.arange(10), torch.arange(10, 20).repeat(40)])
    rewards = model(ids, positions, segments, torch.tensor(starts) + 9)
    loss = bradley_terry_loss(rewards, torch.arange(0, 20), torch.arange(20, 40)) / 20
    assert 0.68 < loss.item() < 0.71


def test_another_template_or_tokenizer_is_refused(tiny_checkpoint: Path) -> None:
    path = tiny_checkpoint / "worldpm_template.json"
    template = read_json(path)
    write_json(path, template | {"separator": " "})
    with pytest.raises(CheckpointError, match="chat template is not the one it was trained with"):
        load_checkpoint(tiny_checkpoint)
    write_json(path, template)
    tokenizer = read_json(tiny_checkpoint / "tokenizer.json")
    tokenizer["model"]["merges"].pop()
    write_json(tiny_checkpoint / "tokenizer.json", tokenizer)
    with pytest.raises(CheckpointError, match=r"tokenizer\.json is not the one"):
        load_checkpoint(tiny_checkpoint)


def test_a_damaged_file_is_named(tiny_checkpoint: Path) -> None:
    path = tiny_checkpoint / "model.safetensors"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(CheckpointError, match="is damaged"):
        load_checkpoint(tiny_checkpoint)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"attention_dropout": 0.1}, "attention_dropout is 0.1: dropout"),
        ({"model_type": "gpt2"}, "model_type is 'gpt2'; known"),
        ({"num_hiden_layers": 3}, "unknown key num_hiden_layers.*did you mean num_hidden_layers"),
        ({"use_sliding_window": True, "max_window_layers": 0}, "sliding-window"),
    ],
)
def test_an_architecture_that_cannot_be_trained_is_refused(
    tiny_architecture: MakeArchitecture, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        PreferenceModel.from_architecture(tiny_architecture("qwen2") | change, seed=0)


def test_remote_code_is_never_run(tiny_checkpoint: Path) -> None:
    config = read_json(tiny_checkpoint / "config.json")
    config["auto_map"] = {"AutoModel": "modeling.Evil", "AutoConfig": "modeling.EvilConfig"}
    config["architectures"] = ["Qwen2ForRewardModel"]
    (tiny_checkpoint / "modeling.py").write_text("raise SystemExit('this must not run')\n")
    write_json(tiny_checkpoint / "config.json", config)
    assert PreferenceModel.from_pretrained(tiny_checkpoint).head_state == "loaded"


def test_a_two_layer_head_comes_back_bit_for_bit_and_is_never_made_linear(
    tmp_path: Path, own_encoder: Encoder, tiny_architecture: MakeArchitecture
) -> None:
    model = PreferenceModel.from_architecture(
        tiny_architecture("qwen2"), seed=2, head="mlp", head_init="inverse_sqrt"
    )
    with pytest.raises(CheckpointError, match=r"score\.weight is missing: a two-layer head"):
        save_portable(model, own_encoder, tmp_path / "no")
    assert not (tmp_path / "no").exists()
    save_qwen2_rm(model, own_encoder, tmp_path / "model")
    loaded = load_checkpoint(tmp_path / "model")
    assert loaded.model.head_kind == "mlp"
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, loaded.model.state_dict()[name]), name
    assert read_json(tmp_path / "model" / "config.json")["architectures"] == ["Qwen2ForRewardModel"]


def test_the_card_records_scores_that_hold(tiny_checkpoint: Path) -> None:
    from worldpm.modeling.self_test import score_one

    loaded = load_checkpoint(tiny_checkpoint)
    assert len(loaded.card.self_test) >= 5
    assert len({round(test.score, 3) for test in loaded.card.self_test}) > 3
    for test in loaded.card.self_test:
        score = score_one(loaded.model, loaded.encoder, test.prompt, test.response, None)
        assert score == pytest.approx(test.score, abs=1e-5)


def test_a_card_of_another_version_is_refused(tiny_checkpoint: Path) -> None:
    path = tiny_checkpoint / "worldpm.json"
    path.write_text(json.dumps(read_json(path) | {"format_version": 99}))
    with pytest.raises(CheckpointError, match="format version 99"):
        load_checkpoint(tiny_checkpoint)
