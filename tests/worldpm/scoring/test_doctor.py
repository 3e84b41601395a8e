"""`worldpm doctor`: a sound checkpoint passes, each kind of damage fails by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, pre_tokenizers

from worldpm.artifacts import read_json, write_json
from worldpm.chat_template import Encoder
from worldpm.cli.doctor import command
from worldpm.errors import WorldPMError
from worldpm.modeling.checkpoint_card import CheckpointCard
from worldpm.modeling.checkpoint_io import save_portable
from worldpm.modeling.preference_model import PreferenceModel
from worldpm.scoring.doctor import Check, check_checkpoint, check_installation


def failures(folder: Path) -> dict[str, str]:
    return {check.name: check.detail for check in check_checkpoint(folder) if not check.ok}


def test_this_installation_passes() -> None:
    checks = list(check_installation())
    assert [check for check in checks if not check.ok] == []
    assert {"torch", "packed attention", "gpu"} <= {check.name for check in checks}


def test_a_sound_checkpoint_passes_and_the_command_says_so(tiny_checkpoint: Path) -> None:
    assert failures(tiny_checkpoint) == {}
    result = CliRunner().invoke(command, [str(tiny_checkpoint)], catch_exceptions=False)
    assert result.exit_code == 0
    assert "recorded scores hold" in result.output


def shift_head(folder: Path) -> None:
    path = folder / "model.safetensors"
    tensors = load_file(path)
    tensors["score.weight"] += 0.05
    save_file(tensors, path, {"format": "pt"})


def lose_problem_type(folder: Path) -> None:
    values = read_json(folder / "config.json")
    del values["problem_type"]
    write_json(folder / "config.json", values)


def lose_old_rope(folder: Path) -> None:
    values = read_json(folder / "config.json")
    del values["rope_theta"]
    write_json(folder / "config.json", values)


def inject_system_text(folder: Path) -> None:
    path = folder / "chat_template.jinja"
    jinja = path.read_text().replace("system\\n<|im_end|>", "system\\nBe helpful.<|im_end|>")
    path.write_text(jinja)


def lose_a_tensor(folder: Path) -> None:
    path = folder / "model.safetensors"
    tensors = load_file(path)
    del tensors["model.norm.weight"]
    save_file(tensors, path, {"format": "pt"})


@pytest.mark.parametrize(
    ("damage", "check", "message"),
    [
        (shift_head, "scores", "expected"),
        (lose_problem_type, "configuration", "problem_type is None"),
        (lose_old_rope, "configuration", "rope_theta is None"),
        (inject_system_text, "template in transformers", "renders other ids"),
        (lose_a_tensor, "tensors", "model.norm.weight is missing"),
    ],
)
def test_damage_is_named(
    tiny_checkpoint: Path, damage: Callable[[Path], None], check: str, message: str
) -> None:
    damage(tiny_checkpoint)
    found = failures(tiny_checkpoint)
    assert message in found[check]
    result = CliRunner().invoke(command, [str(tiny_checkpoint)])
    assert isinstance(result.exception, WorldPMError)
    assert check in str(result.exception)


def test_a_tokenizer_that_transformers_would_change_is_found(
    tmp_path: Path, own_encoder: Encoder, tiny_architecture: Callable[[str], dict[str, Any]]
) -> None:
    """transformers 5 cuts text its own way for every Qwen2 model, and for no other family."""
    tokenizer = Tokenizer.from_str(own_encoder.tokenizer.to_str())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    encoder = Encoder(tokenizer, own_encoder.template)
    for family in ("qwen2", "llama"):
        model = PreferenceModel.from_architecture(tiny_architecture(family), seed=0)
        save_portable(model, encoder, tmp_path / family)
    message = failures(tmp_path / "qwen2")["template in transformers"]
    assert "Qwen2Tokenizer replaces the" in message
    assert failures(tmp_path / "llama") == {}


def test_published_scores_must_hold_too(tiny_checkpoint: Path) -> None:
    card = CheckpointCard.read(tiny_checkpoint)
    replace(card, published_scores=card.self_test[:1]).write(tiny_checkpoint)
    assert failures(tiny_checkpoint) == {}
    wrong = replace(card.self_test[0], score=card.self_test[0].score + 0.5)
    replace(card, published_scores=(wrong,)).write(tiny_checkpoint)
    assert "expected" in failures(tiny_checkpoint)["scores"]


def test_record_measures_scores_anew(tiny_checkpoint: Path) -> None:
    shift_head(tiny_checkpoint)
    arguments = [str(tiny_checkpoint), "--record"]
    assert CliRunner().invoke(command, arguments, catch_exceptions=False).exit_code == 0
    assert failures(tiny_checkpoint) == {}


def test_a_bf16_run_passes_within_its_precision(tiny_checkpoint: Path) -> None:
    checks: list[Check] = list(check_checkpoint(tiny_checkpoint, dtype="bfloat16"))
    assert all(check.ok for check in checks), checks


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    result = CliRunner().invoke(command, [str(tmp_path / "no")])
    assert "there is no folder" in str(result.exception)
    assert torch.is_grad_enabled()
