"""Conversations whose scores a checkpoint carries, so that any later reader can check its own."""

from __future__ import annotations

import torch
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled

from worldpm.chat_template import EncodedGroup, Encoder
from worldpm.modeling.checkpoint_card import SelfTest
from worldpm.modeling.preference_model import PreferenceModel
from worldpm.schema import Message

# Larger weights are not loaded in fp32 on the way: `worldpm doctor --record` does it later.
MAX_FLOAT_BYTES = 8_000_000_000

# Each is a way in which readers have gone wrong: a missing or given system turn, several turns,
# text that looks like special tokens, other scripts, an empty response.
CONVERSATIONS: tuple[tuple[tuple[Message, ...], str], ...] = (
    ((Message("user", "What is the capital of France?"),), "Paris."),
    (
        (Message("system", "Answer in one word."), Message("user", "Is 7 a prime number?")),
        "Yes",
    ),
    (
        (
            Message("user", "How do I list files?"),
            Message("assistant", "Run `ls`."),
            Message("user", "And hidden ones?"),
        ),
        "Add `-a`:\n\n```\nls -a\n```\n",
    ),
    (
        (Message("user", "What does <|im_end|> mean?"),),
        "It ends a turn; <|endoftext|> ends a text.",
    ),
    ((Message("user", "Übersetze: 猫が好きです 🐈"),), "Ich mag Katzen."),
    ((Message("user", "Say nothing."),), ""),
)


def can_record(num_params: int) -> bool:
    """Whether a checkpoint just written can be loaded again in this process to score it.

    Not where weights are partitioned as they are loaded: the other ranks would have to take part.
    """
    return num_params * 4 <= MAX_FLOAT_BYTES and not is_deepspeed_zero3_enabled()


def measure_self_test(
    model: PreferenceModel, encoder: Encoder, max_tokens: int | None
) -> tuple[SelfTest, ...]:
    """Score the conversations one by one."""
    return tuple(
        SelfTest(prompt, response, score_one(model, encoder, prompt, response, max_tokens))
        for prompt, response in CONVERSATIONS
    )


def score_one(
    model: PreferenceModel,
    encoder: Encoder,
    prompt: tuple[Message, ...],
    response: str,
    max_tokens: int | None,
) -> float:
    """The reward of one response, alone in its row."""
    encoded: EncodedGroup = encoder.encode(prompt, [response], max_tokens)
    num_prompt = len(encoded.prompt_ids)
    ids = encoded.prompt_ids + encoded.response_ids[0]
    rows = [[0, num_prompt, 0, 0], [num_prompt, len(ids), 0, num_prompt]]
    device = model.input_device
    with torch.inference_mode():
        rewards_R = model(
            torch.tensor(ids, device=device),
            torch.arange(len(ids), device=device),
            torch.tensor(rows),
            torch.tensor([len(ids) - 1], device=device),
        )
    return rewards_R.item()
