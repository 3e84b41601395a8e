"""OpenRLHF's own executor against our server's /get_reward and with our .py reward function."""

from __future__ import annotations

import asyncio
import os
from types import SimpleNamespace

import torch
from openrlhf.utils.agent import SingleTurnAgentExecutor
from transformers import AutoTokenizer

import worldpm.integrations.openrlhf as adapter
from worldpm.client import ScoringClient
from worldpm.schema import Message

url, checkpoint = os.environ["WORLDPM_REWARD"], os.environ["WORLDPM_CHECKPOINT"]
tokenizer = AutoTokenizer.from_pretrained(checkpoint)
messages = [Message("system", "Be brief."), Message("user", "Capital of France?")]
prompt = tokenizer.apply_chat_template(
    [{"role": turn.role, "content": turn.content} for turn in messages],
    tokenize=False,
    add_generation_prompt=True,
)


class Engine:
    """Stands in for vLLM: always generates the same response."""

    async def generate(self, prompt_token_ids, sampling_params, multi_modal_data=None):
        ids = tokenizer("Paris.<|im_end|>", add_special_tokens=False)["input_ids"]
        output = SimpleNamespace(token_ids=ids, finish_reason="stop", logprobs=None, text="Paris.")
        return SimpleNamespace(outputs=[output])


def execute(endpoints: list[str]) -> dict:
    """One roll-out with its reward."""
    executor = SingleTurnAgentExecutor(endpoints)
    parameters = SimpleNamespace(max_tokens=32, logprobs=None)
    return asyncio.run(executor.execute(prompt, "label", parameters, 512, tokenizer, Engine()))


with ScoringClient(url) as client:
    [expected] = client.score_responses(messages, ["Paris."])
for name, endpoints in {
    "remote URL": [f"{url}/get_reward"],
    "two remote URLs": [f"{url}/get_reward", f"{url}/get_reward"],
    "reward function": [adapter.__file__],
}.items():
    output = execute(endpoints)
    reward = torch.tensor(output["reward"]).flatten()
    assert torch.allclose(reward, torch.tensor([expected]), atol=1e-5), (name, output["reward"])
    assert 0 < output["scores"][0] < 1
    assert all(len(values) == 1 for values in output["extra_logs"].values())
    print(f"OpenRLHF: {name}: {reward.item():.6f}, the scorer's own {expected:.6f}")
