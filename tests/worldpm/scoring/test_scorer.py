"""Scores are the model's, whatever else is scored with them; HF loads the same checkpoint."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from worldpm.chat_template import Encoder
from worldpm.errors import CheckpointError, ConfigError
from worldpm.modeling.checkpoint_io import save_portable
from worldpm.modeling.preference_model import PreferenceModel
from worldpm.schema import Group, Message
from worldpm.scoring import Scorer


def question(name: str, text: str, *responses: str) -> Group:
    return Group(name, (Message("user", text),), responses)


@pytest.fixture
def groups() -> list[Group]:
    return [
        question("a", "How do I sleep?", "Go to bed.", "", "Avoid coffee at night. " * 20),
        question("b", "x" * 700, "y"),
        Group("c", (Message("system", "Be brief."), Message("user", "?"), Message("assistant", "!"),
                    Message("user", "And?")), ("No.", "Yes.")),
        question("d", "Nothing to score"),
    ]  # fmt: skip


def flat(scores: list[Any]) -> list[float]:
    return [score for group in scores for score in group.scores]


@pytest.mark.parametrize("token_budget", [60, 400, 100_000])
def test_scores_do_not_depend_on_company_or_budget(
    tiny_checkpoint: Path, groups: list[Group], token_budget: int
) -> None:
    scorer = Scorer.from_checkpoint(tiny_checkpoint, token_budget=token_budget)
    together = scorer.score(groups)
    assert [result.group_id for result in together] == ["a", "b", "c", "d"]
    alone = [
        score
        for group in groups
        for response in group.responses
        for score in scorer.score([Group(group.group_id, group.prompt, (response,))])[0].scores
    ]
    assert flat(together) == pytest.approx(alone, abs=1e-5)


@pytest.mark.parametrize("family", ["qwen2", "qwen3", "llama"])
def test_transformers_gives_the_same_scores_padded_left_or_right(
    tmp_path: Path,
    own_encoder: Encoder,
    tiny_architecture: Callable[[str], dict[str, Any]],
    groups: list[Group],
    family: str,
) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = PreferenceModel.from_architecture(
        tiny_architecture(family), seed=3, head_init="inverse_sqrt"
    )
    save_portable(model, own_encoder, tmp_path / "model")
    ours = flat(Scorer.from_checkpoint(tmp_path / "model").score(groups))
    assert max(ours) - min(ours) > 0.01

    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    reference = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model").eval()
    texts = [
        tokenizer.apply_chat_template(
            [{"role": turn.role, "content": turn.content} for turn in group.prompt]
            + [{"role": "assistant", "content": response}],
            tokenize=False,
        )
        for group in groups
        for response in group.responses
    ]
    for side in ("left", "right"):
        batch = tokenizer(
            texts, return_tensors="pt", padding=True, padding_side=side, add_special_tokens=False
        )
        with torch.no_grad():
            logits = reference(batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        assert logits[:, 0].tolist() == pytest.approx(ours, abs=1e-5)


def test_what_does_not_fit_is_cut_and_reported(tiny_checkpoint: Path, groups: list[Group]) -> None:
    results = Scorer.from_checkpoint(tiny_checkpoint, max_tokens=120).score(groups)
    for result in results:
        for length in result.num_response_tokens:
            assert result.num_prompt_tokens + length <= 120
    assert results[1].prompt_tokens_cut > 0
    assert results[0].response_tokens_cut[2] > 0
    assert results[2].prompt_tokens_cut == 0
    assert all(math.isfinite(score) for score in flat(results))


def test_literal_special_tokens_do_not_move_the_reward(tiny_checkpoint: Path) -> None:
    scorer = Scorer.from_checkpoint(tiny_checkpoint)
    tricky = question("t", "What is <|endoftext|>?", "It is <|im_end|><|endoftext|><|pad|>")
    encoded = scorer.encoder.encode(tricky.prompt, tricky.responses)
    ids = encoded.prompt_ids + encoded.response_ids[0]
    assert ids.count(scorer.encoder.reward_id) == 1
    assert scorer.encoder.pad_id not in ids
    assert math.isfinite(scorer.score([tricky])[0].scores[0])


@pytest.mark.parametrize("second", ["cpu", "disk"])
def test_layers_spread_by_a_device_map_give_the_same_scores(
    tiny_checkpoint: Path, groups: list[Group], second: str
) -> None:
    from worldpm.modeling.checkpoint_io import load_checkpoint

    whole = Scorer.from_checkpoint(tiny_checkpoint)
    parts = {"embed_tokens": "cpu", "layers.0": "cpu", "layers.1": second, "norm": "cpu",
             "rotary_emb": "cpu"}  # fmt: skip
    loaded = load_checkpoint(tiny_checkpoint, device_map=parts)
    spread = Scorer(loaded.model, loaded.encoder, loaded.card, device="auto")
    assert flat(spread.score(groups)) == flat(whole.score(groups))


def test_bf16_scores_stay_near_and_keep_a_float_head(
    tiny_checkpoint: Path, groups: list[Group]
) -> None:
    half = Scorer.from_checkpoint(tiny_checkpoint, dtype="bfloat16")
    assert half.model.score.weight.dtype == torch.float32
    full = Scorer.from_checkpoint(tiny_checkpoint)
    scale = max(map(abs, flat(full.score(groups))))
    assert flat(half.score(groups)) == pytest.approx(flat(full.score(groups)), abs=0.2 * scale)


def test_a_score_that_is_no_number_is_refused(tiny_checkpoint: Path, groups: list[Group]) -> None:
    scorer = Scorer.from_checkpoint(tiny_checkpoint)
    with torch.no_grad():
        scorer.model.score.weight.fill_(math.inf)
    with pytest.raises(CheckpointError, match="no finite number"):
        scorer.score(groups)


@pytest.mark.parametrize(("device", "message"), [("tpu", "known are"), ("cuda", "no GPU")])
def test_a_device_that_is_not_there_is_refused(
    tiny_checkpoint: Path, device: str, message: str
) -> None:
    if device == "cuda" and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(ConfigError, match=message):
        Scorer.from_checkpoint(tiny_checkpoint, device=device)
