"""A preference set whose better answers say "yes" more often, and small folders to begin from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    LlamaConfig,
    LlamaForSequenceClassification,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForSequenceClassification,
)

from tests.worldpm.training.finetuning.running import SHAPE
from worldpm.chat_template import CHATML, LLAMA3, Encoder
from worldpm.group_files import write_group_file
from worldpm.schema import Group, Message, Pair

# Wider initial weights than the default: scores of a random model that tell responses apart.
SKYWORK = SHAPE | {"vocab_size": 384, "initializer_range": 0.2, "pad_token_id": 380}


def preferences(count: int, seed: int = 0) -> list[Group]:
    """One pair a prompt; the margin is how many times more the chosen answer says yes."""
    random = np.random.default_rng(seed)
    groups: list[Group] = []
    for number in range(count):
        fewer, more = sorted(random.choice(6, 2, replace=False).tolist())
        answers = [
            " ".join(random.permutation(["yes"] * good + ["no"] * 4).tolist())
            for good in (fewer, more)
        ]
        question = f"Question {seed}-{number}?"
        groups.append(
            Group(
                f"set/{seed}-{number}",
                (Message("user", question),),
                tuple(answers),
                (Pair(1, 0, more - fewer),),
            )
        )
    return groups


@pytest.fixture(scope="session")
def preference_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """160 prompts with a pair each."""
    path = tmp_path_factory.mktemp("preferences") / "set.jsonl"
    write_group_file(path, preferences(160))
    return path


@pytest.fixture(scope="session")
def test_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """80 prompts of the same kind, none of them in the preference set."""
    path = tmp_path_factory.mktemp("tests") / "test.jsonl"
    write_group_file(path, preferences(80, seed=7))
    return path


def save_foreign(model: Any, tokenizer: Any, folder: Path) -> Path:
    """Write a folder as other programs do: no file of ours in it."""
    model.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture(scope="session")
def base_folder(
    tmp_path_factory: pytest.TempPathFactory, make_tokenizer: Callable[[list[str]], Any]
) -> Path:
    """A language model of Qwen2's family, with its output layer and without a score head."""
    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|fim_pad|>"]
    torch.manual_seed(0)
    model = Qwen2ForCausalLM(Qwen2Config(vocab_size=384, **SHAPE))
    return save_foreign(model, make_tokenizer(specials), tmp_path_factory.mktemp("base") / "base")


@pytest.fixture(scope="session")
def skywork_llama_folder(
    tmp_path_factory: pytest.TempPathFactory, make_tokenizer: Callable[[list[str]], Any]
) -> Path:
    """A random model in the layout of Skywork-Reward-V2-Llama: one linear head."""
    specials = [LLAMA3.beginning, LLAMA3.start, "<|end_header_id|>", "<|eot_id|>"]
    specials += [LLAMA3.reward_token, LLAMA3.pad_token]
    torch.manual_seed(1)
    model = LlamaForSequenceClassification(LlamaConfig(num_labels=1, **SKYWORK))  # pyright: ignore[reportCallIssue]
    folder = tmp_path_factory.mktemp("skywork") / "llama"
    return save_foreign(model, make_tokenizer(specials), folder)


@pytest.fixture(scope="session")
def skywork_qwen3_folder(
    tmp_path_factory: pytest.TempPathFactory, make_tokenizer: Callable[[list[str]], Any]
) -> Path:
    """A random model in the layout of Skywork-Reward-V2-Qwen3."""
    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|fim_pad|>"]
    torch.manual_seed(3)
    config = Qwen3Config(num_labels=1, head_dim=16, **SKYWORK)  # pyright: ignore[reportCallIssue]
    folder = tmp_path_factory.mktemp("skywork") / "qwen3"
    return save_foreign(Qwen3ForSequenceClassification(config), make_tokenizer(specials), folder)


@pytest.fixture(scope="session")
def released_folder(base_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model in the layout of the released WorldPM: Qwen2ForRewardModel, two layers."""
    from worldpm.modeling.checkpoint_io import save_qwen2_rm
    from worldpm.modeling.preference_model import PreferenceModel

    torch.manual_seed(2)
    architecture = {"model_type": "qwen2", "vocab_size": 384, **SHAPE}
    model = PreferenceModel.from_architecture(
        architecture, seed=2, head="mlp", head_init="inverse_sqrt"
    )
    folder = tmp_path_factory.mktemp("released") / "released"
    save_qwen2_rm(model, Encoder.from_folder(base_folder, CHATML.name), folder)
    return folder
