"""Pairs per second of this trainer against padded batches and TRL's RewardTrainer.

    python benchmarks/training.py [--pairs 48] [--trl FOLDER]

Equal model (1.3 M weights), data, threads (1) and pairs a step; every way runs in its own process.
TRL is used where it can be imported; `pip install --no-deps --target FOLDER trl==1.16.0` puts it
beside the project. The data are drawn like StackExchange's: prompts of 180 tokens in the median,
answers of 220, 2 to 6 answers a question. The last line is one JSON object of ratios.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np

from worldpm.data.packing import GroupLengths, deal_groups, pack_groups
from worldpm.data.token_group import TokenGroup
from worldpm.schema import Pair

VOCABULARY = 4096
MAX_TOKENS = 2048
PAIRS_PER_STEP = 48
ARCHITECTURE = {
    "model_type": "qwen2",
    "hidden_size": 128,
    "intermediate_size": 448,
    "num_hidden_layers": 6,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 4096,
    "rope_theta": 10000.0,
}
WAYS = ("packed_groups", "padded", "padded_by_length", "trl", "trl_by_length")


def draw_groups(num_pairs: int, max_pairs_per_group: int, seed: int = 0) -> list[TokenGroup]:
    """Groups of 2 to 6 answers with up to so many pairs, until there are enough pairs."""
    random = np.random.default_rng(seed)
    groups: list[TokenGroup] = []
    total = 0
    while total < num_pairs:
        count = int(random.integers(2, 7)) if max_pairs_per_group > 1 else 2
        prompt = int(np.clip(random.lognormal(np.log(180), 0.8), 8, MAX_TOKENS // 2))
        answers = np.clip(random.lognormal(np.log(220), 0.7, count), 8, MAX_TOKENS - prompt)
        every = [(i, j) for i in range(count) for j in range(i + 1, count)]
        room = min(max_pairs_per_group, num_pairs - total)
        chosen = random.permutation(len(every))[:room]
        pairs = [Pair(*every[index]) for index in sorted(chosen)]
        ids = [random.integers(1, VOCABULARY, int(length)).tolist() for length in answers]
        prompt_ids = random.integers(1, VOCABULARY, prompt).tolist()
        group = TokenGroup.from_ids(f"g{len(groups)}", prompt_ids, ids, pairs)
        # Answers in no pair would not be trained on by anybody.
        groups.append(group.keep_pairs(range(group.num_pairs)))
        total += group.num_pairs
    return groups


def sequences_of(groups: list[TokenGroup]) -> list[tuple[list[int], list[int]]]:
    """Chosen and rejected sequence of every pair, prompts repeated."""
    return [
        tuple(
            [*group.prompt_ids.tolist(), *group.response_ids[index].tolist()]
            for index in (chosen, rejected)
        )  # type: ignore[misc]
        for group in groups
        for chosen, rejected in zip(group.chosen.tolist(), group.rejected.tolist(), strict=True)
    ]


def token_counts(groups: list[TokenGroup]) -> dict[str, int]:
    """Token positions that each layout computes: exact, without running anything."""
    pairs = [(len(chosen), len(rejected)) for chosen, rejected in sequences_of(groups)]
    order = np.random.default_rng(0).permutation(len(pairs))
    by_length = sorted(pairs, key=max)

    def padded(rows: list[tuple[int, int]]) -> int:
        batches = [rows[start : start + 8] for start in range(0, len(rows), 8)]
        return sum(2 * len(batch) * max(map(max, batch)) for batch in batches)

    unique = sum(
        len(group.prompt_ids) * len(group.response_ids) + sum(map(len, group.response_ids))
        for group in groups
    )
    return {
        "padded, batches of 8 pairs": padded([pairs[index] for index in order]),
        "padded, sorted by length": padded(by_length),
        "packed pairs": sum(map(sum, pairs)),
        "each answer once": unique,
        "prompt once too": sum(group.num_tokens for group in groups),
    }


def run_packed(groups: list[TokenGroup]) -> None:
    """This project's layout, loss and model."""
    import torch

    from worldpm.losses import bradley_terry_loss
    from worldpm.modeling.preference_model import PreferenceModel

    model = PreferenceModel.from_architecture(ARCHITECTURE, seed=0, attention="segments")
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    step: list[TokenGroup] = []
    steps: list[list[TokenGroup]] = []
    for group in groups:
        step.append(group)
        if sum(member.num_pairs for member in step) >= PAIRS_PER_STEP:
            steps.append(step)
            step = []
    for members in [*steps, step] if step else steps:
        dealt = deal_groups(GroupLengths.of_groups(members), token_budget=8192, world_size=1)
        num_pairs = sum(member.num_pairs for member in members)
        for micro in dealt[0]:
            batch = pack_groups([members[index] for index in micro])
            rewards = model(
                torch.from_numpy(batch.input_ids),
                torch.from_numpy(batch.position_ids),
                torch.from_numpy(batch.segments),
                torch.from_numpy(batch.reward_index),
            )
            indices = (torch.from_numpy(batch.chosen), torch.from_numpy(batch.rejected))
            (bradley_terry_loss(rewards, *indices) / num_pairs).backward()
        optimizer.step()
        optimizer.zero_grad()


def sequence_classifier() -> object:
    """The same backbone as transformers' own reward model."""
    import torch
    from transformers import Qwen2Config, Qwen2ForSequenceClassification

    shape = {key: value for key, value in ARCHITECTURE.items() if key != "model_type"}
    torch.manual_seed(0)
    return Qwen2ForSequenceClassification(Qwen2Config(**shape, num_labels=1, pad_token_id=0))


def run_padded(groups: list[TokenGroup], *, by_length: bool) -> None:
    """Pairs in padded batches of 8, as OpenRLHF and DeepSpeed-Chat lay them out."""
    import torch

    model = sequence_classifier()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    pairs = sequences_of(groups)
    order = np.random.default_rng(0).permutation(len(pairs)).tolist()
    if by_length:
        order.sort(key=lambda index: max(map(len, pairs[index])))
    for number, start in enumerate(range(0, len(order), 8)):
        batch = [pairs[index] for index in order[start : start + 8]]
        rows = [chosen for chosen, _ in batch] + [rejected for _, rejected in batch]
        width = max(map(len, rows))
        ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
        rewards = model(input_ids=ids, attention_mask=mask).logits[:, 0]
        difference = rewards[: len(batch)] - rewards[len(batch) :]
        (torch.nn.functional.softplus(-difference).sum() / PAIRS_PER_STEP).backward()
        if (number + 1) % (PAIRS_PER_STEP // 8) == 0:
            optimizer.step()
            optimizer.zero_grad()


def run_trl(groups: list[TokenGroup], *, by_length: bool) -> None:
    """TRL's RewardTrainer on the same tokens; its activation checkpointing is switched off."""
    from datasets import Dataset
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast
    from trl import RewardConfig, RewardTrainer

    pairs = sequences_of(groups)
    rows = {
        "chosen_ids": [chosen for chosen, _ in pairs],
        "rejected_ids": [rejected for _, rejected in pairs],
        "length": [max(len(chosen), len(rejected)) for chosen, rejected in pairs],
    }
    words = {f"w{index}": index for index in range(VOCABULARY)}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(words, "w1")), pad_token="w0", eos_token="w2"
    )
    with tempfile.TemporaryDirectory() as folder:
        config = RewardConfig(
            output_dir=folder,
            per_device_train_batch_size=8,
            gradient_accumulation_steps=PAIRS_PER_STEP // 8,
            num_train_epochs=1,
            max_length=None,
            gradient_checkpointing=False,
            train_sampling_strategy="group_by_length" if by_length else "random",
            remove_unused_columns=False,
            bf16=False,
            use_cpu=True,
            report_to=[],
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
        )
        RewardTrainer(
            model=sequence_classifier(),
            args=config,
            train_dataset=Dataset.from_dict(rows),
            processing_class=tokenizer,
        ).train()


def run_way(way: str, num_pairs: int, max_pairs_per_group: int) -> dict[str, float]:
    """One way in this process: its CPU and wall seconds without imports, and its peak memory."""
    import torch

    torch.set_num_threads(1)
    functions = {
        "packed_groups": run_packed,
        "padded": lambda groups: run_padded(groups, by_length=False),
        "padded_by_length": lambda groups: run_padded(groups, by_length=True),
        "trl": lambda groups: run_trl(groups, by_length=False),
        "trl_by_length": lambda groups: run_trl(groups, by_length=True),
    }
    # One small round first: imports and first calls are nobody's speed.
    functions[way](draw_groups(2, max_pairs_per_group, seed=1))
    groups = draw_groups(num_pairs, max_pairs_per_group)
    cpu_s, wall_s = time.process_time(), time.perf_counter()
    functions[way](groups)
    return {
        "cpu_s": time.process_time() - cpu_s,
        "wall_s": time.perf_counter() - wall_s,
        "memory_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }


def measure(way: str, arguments: argparse.Namespace, max_pairs_per_group: int) -> dict | None:
    """Run one way in a process of its own; None if TRL is not there."""
    command = [sys.executable, __file__, "--way", way, "--pairs", str(arguments.pairs)]
    command += ["--max-pairs-per-group", str(max_pairs_per_group)]
    root = str(Path(__file__).parents[1])
    paths = [root, *([arguments.trl] if arguments.trl else [])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode != 0:
        last = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "no message"
        print(f"  {way}: not measured ({last})")
        return None
    return json.loads(done.stdout.splitlines()[-1])


def compare(name: str, max_pairs_per_group: int, arguments: argparse.Namespace) -> dict[str, float]:
    """Measure all ways on one distribution, print the tables, return the ratios."""
    counts = token_counts(draw_groups(2000, max_pairs_per_group))
    least = counts["prompt once too"]
    print(f"\n{name}: token positions of 2,000 pairs")
    for layout, count in counts.items():
        print(f"  {layout:<28}{count:>12,}{count / least:>8.2f}×")
    print(f"\n{name}: {arguments.pairs} pairs, one thread")
    print(f"  {'way':<18}{'CPU s':>9}{'wall s':>9}{'pairs/CPU s':>13}{'peak GiB':>10}{'ratio':>8}")
    found = {way: measure(way, arguments, max_pairs_per_group) for way in WAYS}
    ours = found["packed_groups"]
    assert ours is not None, "this project's own way must run"
    ratios = {}
    for way, result in found.items():
        if result is None:
            continue
        ratios[f"{way}_over_packed_groups"] = round(result["cpu_s"] / ours["cpu_s"], 2)
        print(
            f"  {way:<18}{result['cpu_s']:>9.1f}{result['wall_s']:>9.1f}"
            f"{arguments.pairs / result['cpu_s']:>13.2f}{result['memory_gib']:>10.2f}"
            f"{result['cpu_s'] / ours['cpu_s']:>7.2f}×"
        )
    return ratios


def main() -> None:
    """Parse the command line; without `--way` measure everything."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pairs", type=int, default=PAIRS_PER_STEP)
    parser.add_argument("--trl", default=None, help="folder into which TRL was installed")
    parser.add_argument("--way", choices=WAYS, default=None, help=argparse.SUPPRESS)
    parser.add_argument("--max-pairs-per-group", type=int, default=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.way is not None:
        result = run_way(arguments.way, arguments.pairs, arguments.max_pairs_per_group)
        print(json.dumps(result))
        return
    ratios = {
        "several_pairs": compare("2 to 6 answers, up to 4 pairs a question", 4, arguments),
        "one_pair": compare("2 answers, one pair a question", 1, arguments),
    }
    print(json.dumps(ratios))


if __name__ == "__main__":
    main()
