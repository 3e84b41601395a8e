"""All weights of a Skywork-Reward-V2 layout, fine-tuned: transformers reads what we read."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from tests.worldpm.training.finetuning.running import measured_scores, run_finetune
from worldpm.group_files import read_group_file
from worldpm.run_record import RunRecord
from worldpm.training.finetuning.comparison import kept_step

# What the model cards' chat templates render, written out.
RENDERED = {
    "llama3-end": "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n{0}<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\n{1}<|eot_id|>",
    "qwen3-end": "<|im_start|>user\n{0}<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
    "{1}<|im_end|>\n",
}


def theirs(folder: Path, rendered: list[str]) -> np.ndarray:
    """Rewards as the model cards compute them: `logits[0][0]` of one conversation at a time."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=1).eval()
    ids = [tokenizer.encode(text, add_special_tokens=False).ids for text in rendered]
    with torch.no_grad():
        return np.array([model(torch.tensor([row])).logits[0][0].item() for row in ids])


def conversations(test: Path) -> list[tuple[str, str]]:
    """Question and chosen response of a file's pairs, in the order of item ids."""
    groups = sorted(read_group_file(test), key=lambda group: group.group_id)
    return [(g.prompt[0].content, g.responses[g.pairs[0].chosen]) for g in groups]


@pytest.fixture
def files(preference_file: Path, test_file: Path) -> tuple[Path, Path]:
    """What is trained on, and what is measured."""
    return preference_file, test_file


@pytest.mark.parametrize(
    ("fixture", "template"),
    [("skywork_llama_folder", "llama3-end"), ("skywork_qwen3_folder", "qwen3-end")],
)
def test_a_skywork_reward_model_is_fine_tuned_whole(
    fixture: str,
    template: str,
    files: tuple[Path, Path],
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    folder, run = request.getfixturevalue(fixture), tmp_path / "run"
    preference_file, test_file = files
    result = run_finetune(
        folder, preference_file, test_file, run, f"preferences.template={template}"
    )
    assert result.exit_code == 0
    assert RunRecord.read(run).head_state == "loaded"
    texts = conversations(test_file)
    before = theirs(folder, [RENDERED[template].format(*text) for text in texts])
    assert before.std() > 1e-2
    np.testing.assert_allclose(measured_scores(run, 0), before, atol=1e-4)
    learnt = json.loads((run / "comparison.json").read_text())["held_out"]
    assert learnt["gain"]["accuracy_interval"][0] > 0

    configs = [json.loads((path / "config.json").read_text()) for path in (folder, run / "model")]
    assert configs[0]["architectures"] == configs[1]["architectures"]
    tokenizer = AutoTokenizer.from_pretrained(run / "model")
    turns = [
        [{"role": "user", "content": prompt}, {"role": "assistant", "content": response}]
        for prompt, response in texts
    ]
    rendered = [tokenizer.apply_chat_template(pair, tokenize=False) for pair in turns]
    after = theirs(run / "model", rendered)
    np.testing.assert_allclose(measured_scores(run, kept_step(run)), after, atol=1e-4)
