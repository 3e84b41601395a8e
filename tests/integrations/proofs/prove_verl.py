"""verl's own RewardLoopWorker: our function, our registered manager, and verl's built-in route."""

from __future__ import annotations

import asyncio
import os
from importlib.metadata import entry_points

import numpy as np
import torch
import verl
from omegaconf import OmegaConf
from tensordict import TensorDict
from transformers import AutoTokenizer
from verl.experimental.reward_loop.reward_loop import RewardLoopWorker
from verl.protocol import DataProto

from worldpm.client import ScoringClient
from worldpm.schema import Message

url, checkpoint = os.environ["WORLDPM_REWARD"], os.environ["WORLDPM_CHECKPOINT"]
tokenizer = AutoTokenizer.from_pretrained(checkpoint)
messages = [{"role": "user", "content": "Capital of France?"}]
PROMPT_LENGTH, RESPONSE_LENGTH = 64, 16


def padded(ids: list[int], length: int, *, left: bool) -> tuple[list[int], list[int]]:
    """Ids and attention mask as verl pads them."""
    fill = [tokenizer.pad_token_id] * (length - len(ids))
    ones, zeros = [1] * len(ids), [0] * len(fill)
    return (fill + ids, zeros + ones) if left else (ids + fill, ones + zeros)


def rollout() -> DataProto:
    """One prompt with the response Paris."""
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    prompt_ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    response_ids = tokenizer("Paris.", add_special_tokens=False)["input_ids"]
    response_ids += [tokenizer.eos_token_id]
    prompt, prompt_mask = padded(prompt_ids, PROMPT_LENGTH, left=True)
    response, response_mask = padded(response_ids, RESPONSE_LENGTH, left=False)
    batch = {
        "prompts": torch.tensor([prompt]),
        "responses": torch.tensor([response]),
        "attention_mask": torch.tensor([prompt_mask + response_mask]),
    }
    fields = {
        "raw_prompt": messages,
        "data_source": "site",
        "reward_model": {"ground_truth": "Paris"},
        "extra_info": {"prompt": messages},
    }
    arrays = {name: np.array([None], dtype=object) for name in fields}
    for name, value in fields.items():
        arrays[name][0] = value
    return DataProto(batch=TensorDict(batch, batch_size=1), non_tensor_batch=arrays, meta_info={})


def config(**reward: object) -> object:
    """The part of verl's configuration that its reward workers read."""
    base = {
        "custom_reward_function": {"path": None, "name": "compute_score", "reward_kwargs": {}},
        "reward_manager": {"source": "register", "name": "naive", "module": {"path": None}},
        "reward_model": {"enable": False, "model_path": None, "rollout": {"name": "vllm"}},
        "sandbox_fusion": None,
    }
    model = {"model": {"path": checkpoint, "tokenizer_path": None}}
    return OmegaConf.merge({"actor_rollout_ref": model, "reward": base}, {"reward": reward})


def score(settings: object, router: str | None = None) -> dict:
    """What a reward worker answers."""

    async def run() -> dict:
        worker = RewardLoopWorker(settings, router)
        return await worker.compute_score(rollout())

    return asyncio.run(run())


with ScoringClient(url) as client:
    prompt = [Message("user", messages[0]["content"])]
    [expected] = client.score_responses(prompt, ["Paris."])

function = {"name": "compute_score", "reward_kwargs": {"source": url}}
address = url.removeprefix("http://")
ways = {
    "function pkg://worldpm.integrations.verl": (
        config(custom_reward_function=function | {"path": "pkg://worldpm.integrations.verl"}),
        None,
    ),
    "manager worldpm": (config(reward_manager={"name": "worldpm"}), None),
} | {
    f"built-in reward model by {engine}": (
        config(
            reward_model={"enable": True, "model_path": checkpoint, "rollout": {"name": engine}}
        ),
        address,
    )
    for engine in ("vllm", "sglang")
}
assert any(point.name == "worldpm" for point in entry_points(group="verl.plugins"))
for name, (settings, router) in ways.items():
    result = score(settings, router)
    assert abs(result["reward_score"] - expected) < 1e-5, (name, result, expected)
    print(f"verl {verl.__version__}: {name}: {result['reward_score']:.6f}, expected {expected:.6f}")
