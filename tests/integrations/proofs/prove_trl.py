"""TRL's GRPOTrainer with a tiny policy: the mean reward of our server rises over the run.

The same batch is also scored by our asynchronous function and by TRL itself from the checkpoint
folder (both with weight 0): all three must agree.
"""

from __future__ import annotations

import os
from pathlib import Path

import torch
from datasets import Dataset
from scipy.stats import ttest_ind
from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM
from trl import GRPOConfig, GRPOTrainer

from worldpm.integrations.trl import async_reward_function, reward_function

NUM_STEPS = 60
WINDOW = 15  # the first and last steps that are compared

url, checkpoint = os.environ["WORLDPM_REWARD"], os.environ["WORLDPM_CHECKPOINT"]
torch.manual_seed(0)
tokenizer = AutoTokenizer.from_pretrained(checkpoint)
policy = Qwen2ForCausalLM(
    Qwen2Config(
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
)
questions = ["Why is the sky blue?", "Name a prime.", "How are you?", "What is water?"] * 64
prompts = Dataset.from_list(
    [{"prompt": [{"role": "user", "content": question}]} for question in questions]
)
trainer = GRPOTrainer(
    model=policy,
    processing_class=tokenizer,
    reward_funcs=[
        reward_function(url),
        async_reward_function(url, name="worldpm_async"),
        checkpoint,
    ],
    train_dataset=prompts,
    args=GRPOConfig(
        output_dir="run",
        reward_weights=[1.0, 0.0, 0.0],
        max_steps=NUM_STEPS,
        per_device_train_batch_size=32,
        num_generations=8,
        max_completion_length=16,
        learning_rate=2e-3,
        beta=0.0,
        temperature=1.0,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        use_cpu=True,
        bf16=False,
        disable_tqdm=True,
        seed=0,
    ),
)
trainer.train()

logs = [entry for entry in trainer.state.log_history if "reward" in entry]
rewards = [entry["rewards/worldpm/mean"] for entry in logs]
agreement = max(
    abs(entry["rewards/worldpm/mean"] - entry[f"rewards/{other}/mean"])
    for entry in logs
    for other in ("worldpm_async", Path(checkpoint).name)
)
test = ttest_ind(rewards[-WINDOW:], rewards[:WINDOW], equal_var=False, alternative="greater")
first, last = (sum(part) / WINDOW for part in (rewards[:WINDOW], rewards[-WINDOW:]))
print(
    f"TRL: mean reward {first:.4f} -> {last:.4f} over {len(rewards)} steps, p = {test.pvalue:.1e}"
)
print(f"TRL: server, async function and checkpoint agree to {agreement:.1e}")
assert len(rewards) == NUM_STEPS
assert last > first
assert test.pvalue < 1e-4, "the mean reward did not rise significantly"
assert agreement < 1e-5, "the three ways to the same reward disagree"
