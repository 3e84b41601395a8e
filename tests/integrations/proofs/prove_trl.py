"""TRL's GRPO, RLOO and OnlineDPO trainers with a tiny policy: the mean reward of our server rises.

GRPO and RLOO score each batch thrice: by our server, by our asynchronous function, and by TRL
itself from the checkpoint folder (both with weight 0); OnlineDPO, which knows no asynchronous
functions and logs the sum alone, by our server, and then by server minus folder. All must agree.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch
from datasets import Dataset
from scipy.stats import ttest_ind
from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM
from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer
from trl.experimental.online_dpo import OnlineDPOConfig, OnlineDPOTrainer

from worldpm.integrations.trl import (
    async_reward_function,
    online_dpo_reward_function,
    reward_function,
)

NUM_STEPS = 60
WINDOW = 15  # the first and last steps that are compared
QUESTIONS = ("Why is the sky blue?", "Name a prime.", "How are you?", "What is water?")

url, checkpoint = os.environ["WORLDPM_REWARD"], os.environ["WORLDPM_CHECKPOINT"]
tokenizer = AutoTokenizer.from_pretrained(checkpoint)
common = {
    "output_dir": "run",
    "per_device_train_batch_size": 32,
    "temperature": 1.0,
    "logging_steps": 1,
    "save_strategy": "no",
    "report_to": [],
    "use_cpu": True,
    "bf16": False,
    "disable_tqdm": True,
    "seed": 0,
}
grouped = common | {
    "reward_weights": [1.0, 0.0, 0.0],
    "max_steps": NUM_STEPS,
    "num_generations": 8,
    "max_completion_length": 16,
    "learning_rate": 2e-3,
    "beta": 0.0,
}


def parts() -> dict:
    """A random policy of two layers, its tokenizer and prompts: the same every time."""
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=320,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
    )
    prompts = [[{"role": "user", "content": question}] for question in QUESTIONS * 64]
    return {
        "model": Qwen2ForCausalLM(config),
        "processing_class": tokenizer,
        "train_dataset": Dataset.from_dict({"prompt": prompts}),
    }


def trained(trainer, key: str) -> list[dict]:
    """The logs of a whole run that hold `key`."""
    trainer.train()
    return [entry for entry in trainer.state.log_history if key in entry]


def prove(name: str, rewards: list[float], differences: list[float]) -> None:
    """The mean reward has risen, and the ways to it agree."""
    test = ttest_ind(rewards[-WINDOW:], rewards[:WINDOW], equal_var=False, alternative="greater")
    first, last = (sum(part) / WINDOW for part in (rewards[:WINDOW], rewards[-WINDOW:]))
    print(
        f"{name}: mean reward {first:.4f} -> {last:.4f} over {len(rewards)} steps, "
        f"p = {test.pvalue:.1e}; server and checkpoint agree to {max(differences):.1e}",
        flush=True,
    )
    assert len(rewards) == NUM_STEPS, name
    assert last > first, name
    assert test.pvalue < 1e-4, f"{name}: the mean reward did not rise significantly"
    assert max(differences) < 1e-5, f"{name}: the ways to the same reward disagree"


def prove_grouped(trainer_class, args) -> None:
    """GRPO or RLOO."""
    functions = [reward_function(url), async_reward_function(url, name="coroutine"), checkpoint]
    logs = trained(trainer_class(**parts(), reward_funcs=functions, args=args), "reward")
    rewards = [entry["rewards/worldpm/mean"] for entry in logs]
    differences = [
        abs(entry["rewards/worldpm/mean"] - entry[f"rewards/{other}/mean"])
        for entry in logs
        for other in ("coroutine", Path(checkpoint).name)
    ]
    prove(trainer_class.__name__, rewards, differences)


def prove_online_dpo() -> None:
    """Online DPO: a run by the server; a short one by server minus folder, whose scores are 0."""

    def run(rewards: list, num_steps: int, **settings) -> list[dict]:
        own = {"max_new_tokens": 16, "learning_rate": 2e-3, "beta": 0.05, **settings}
        args = OnlineDPOConfig(**common, **own, max_steps=num_steps)
        trainer = OnlineDPOTrainer(**parts(), reward_funcs=rewards, args=args)
        return trained(trainer, "objective/scores")

    ours = online_dpo_reward_function(url)
    rewards = [entry["objective/scores"] for entry in run([ours], NUM_STEPS)]
    minus = run([ours, checkpoint], NUM_STEPS // 4, reward_weights=[1.0, -1.0])
    differences = [abs(entry["objective/scores"]) for entry in minus]
    differences += [entry["objective/scores_margin"] for entry in minus]
    prove("OnlineDPOTrainer", rewards, differences)


PROOFS = {
    "grpo": lambda: prove_grouped(GRPOTrainer, GRPOConfig(**grouped)),
    "rloo": lambda: prove_grouped(RLOOTrainer, RLOOConfig(**grouped)),
    "online_dpo": prove_online_dpo,
}
for chosen in sys.argv[1:] or PROOFS:
    PROOFS[chosen]()
