"""Take one past step again, from the checkpoint before it, and write down all of its parts."""

from __future__ import annotations

from typing import Any

import torch

from worldpm.artifacts import write_json
from worldpm.data.packing import PackedBatch
from worldpm.errors import ConfigError
from worldpm.log import logger
from worldpm.run_record import read_metrics
from worldpm.training import engine as distributed
from worldpm.training.assembly import make_loader, open_data
from worldpm.training.collectives import gather_objects
from worldpm.training.config import TrainConfig
from worldpm.training.gradients import accumulate
from worldpm.training.incidents import without_nan
from worldpm.training.trainer import Trainer

REPLAYS_DIRECTORY = "replays"


def replay(config: TrainConfig, step_number: int) -> None:
    """Repeat step `step_number` (from 1, as in `metrics.jsonl`) of the run in `output_dir`.

    The run is left as it is. `RUN/replays/step-NNNNNNNN.json` gets every pair's rewards and loss,
    every weight's gradient norm, and the loss recorded at the time, which must be the same.

    Raises:
        ConfigError: the run has no such step.
    """
    ranks = distributed.start_ranks(config.monitor.watchdog_s)
    try:
        data = open_data(config)
        trainer = Trainer(config, data, ranks, up_to_step=step_number - 1)
        if not 1 <= step_number <= trainer.num_steps:
            raise ConfigError(f"--replay {step_number}: the run has steps 1 to {trainer.num_steps}")
        loader = make_loader(config, data, trainer.architecture, ranks)
        for number in range(trainer.state.step, step_number - 1):
            trainer.take_step(loader.load(number), 0.0)
        pairs: list[dict[str, Any]] = []
        step = loader.load(step_number - 1)
        sums = accumulate(
            trainer.engine,
            step,
            config.loss,
            ranks.device,
            lambda batch, rewards_R: pairs.extend(_describe_pairs(batch, rewards_R)),
        )
        norms = trainer.engine.gradient_norms()
        norm = trainer.engine.gradient_norm()
        everything = gather_objects(pairs)
        if ranks.is_main:
            found = {
                "step": step_number,
                "loss": sums.objective,
                "bt_loss": sums.bt_loss,
                "recorded_loss": _recorded_loss(config, step_number),
                "grad_norm": norm,
                "gradient_norms": norms,
                "pairs": [pair for part in everything for pair in part],
            }
            path = config.output_dir / REPLAYS_DIRECTORY / f"step-{step_number:08d}.json"
            write_json(path, without_nan(found))
            logger.info("replayed step %d: loss %s; %s", step_number, sums.objective, path)
    finally:
        distributed.stop_ranks()


def _describe_pairs(batch: PackedBatch, rewards_R: torch.Tensor) -> list[dict[str, Any]]:
    if batch.is_filler:
        return []
    rewards = rewards_R.double().cpu().tolist()
    described: list[dict[str, Any]] = []
    group = 0
    for chosen, rejected in zip(batch.chosen.tolist(), batch.rejected.tolist(), strict=True):
        while chosen >= batch.group_offsets[group + 1]:
            group += 1
        first = int(batch.group_offsets[group])
        described.append(
            {
                "group_id": batch.group_ids[group],
                "chosen": chosen - first,
                "rejected": rejected - first,
                "chosen_reward": rewards[chosen],
                "rejected_reward": rewards[rejected],
            }
        )
    return described


def _recorded_loss(config: TrainConfig, step_number: int) -> float | None:
    for line in read_metrics(config.output_dir):
        if line["step"] == step_number:
            return line["loss"]
    return None
