"""What the distributed tests run on every rank; called by name through `distributed.run_ranks`."""

from __future__ import annotations

import ctypes
import dataclasses
import random
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from worldpm.config import load_config
from worldpm.modeling.preference_model import PreferenceModel
from worldpm.training.architecture import describe_model
from worldpm.training.assembly import build_model, make_loader, open_data
from worldpm.training.collectives import barrier
from worldpm.training.config import TrainConfig
from worldpm.training.deepspeed_config import to_deepspeed
from worldpm.training.engine import Engine, start_ranks
from worldpm.training.gradients import accumulate, forward
from worldpm.training.replay import replay
from worldpm.training.stopping import Watchdog
from worldpm.training.trace import trace_step
from worldpm.training.trainer import Trainer, train

ROOT = Path(__file__).parents[3]
TINY = ROOT / "configs/train/tiny.yaml"
M_MMAP_THRESHOLD = -3  # of glibc's malloc.h
MODEL = ROOT / "configs/model/tiny-1.yaml"


def load(data: str, run: str, overrides: list[str]) -> TrainConfig:
    """The tiny configuration on a data set, as a command line would read it."""
    fixed = [f"data.path={data}", f"output_dir={run}", f"model.architecture={MODEL}"]
    return load_config(TrainConfig, TINY, [*fixed, *overrides])


def train_once(data: str, run: str, overrides: list[str]) -> int:
    """One run, to its end."""
    torch.set_num_threads(1)
    return train(load(data, run, overrides))


def train_all(data: str, runs: dict[str, list[str]]) -> dict[str, Any]:
    """Several runs after each other in one process group; keeps the group between them."""
    from worldpm.training import trainer

    torch.set_num_threads(1)
    trainer.distributed.stop_ranks = lambda: None
    return {run: trainer.train(load(data, run, overrides)) for run, overrides in runs.items()}


def gradients_of_steps(data: str, cases: dict[str, list[str]], num_steps: int) -> dict[str, Any]:
    """Losses, and every weight's gradient written to `case/step.npz`, of the first steps."""
    torch.set_num_threads(1)
    ranks = start_ranks()
    found: dict[str, Any] = {}
    for case, overrides in cases.items():
        config = load(data, case, overrides)
        trainer = Trainer(config, open_data(config), ranks)
        loader = make_loader(config, trainer.data, trainer.architecture, ranks)
        losses = []
        for number in range(num_steps):
            step = loader.load(number)
            sums = accumulate(trainer.engine, step, config.loss, ranks.device)
            gradients = {
                key: value.numpy().copy() for key, value in trainer.engine.full_gradients()
            }
            if ranks.is_main:
                np.savez(Path(case) / f"{number}.npz", **gradients)
            norm = trainer.engine.gradient_norm()
            trainer.engine.step(1e-3)
            losses.append([sums.bt_loss, norm, len(step.micro_batches)])
        found[case] = losses
        trainer.engine.destroy()
    return found


def replay_once(data: str, run: str, overrides: list[str], step: int) -> None:
    """Take one step of a run again."""
    replay(load(data, run, overrides), step)


def draw_before_and_after_resume(data: str, run: str, overrides: list[str]) -> dict[str, Any]:
    """What every generator draws after a checkpoint, and in a trainer that goes on from it."""
    config = load(data, run, overrides)
    ranks = start_ranks()
    trainer = Trainer(config, open_data(config), ranks)
    for seed in (torch.manual_seed, np.random.seed, random.seed):
        seed(100 + ranks.rank)
    random.gauss()  # leaves a second number behind, which belongs to the state
    trainer._save_checkpoint()
    trainer.checkpoints.wait()
    before = draw()
    barrier()
    Trainer(config, open_data(config), ranks)
    return {"before": before, "after": draw()}


def draw() -> list[float]:
    """Numbers of all generators."""
    return [*torch.rand(2).tolist(), *np.random.rand(2).tolist(), random.random(), random.gauss()]


class PeakMemory:
    """Bytes of this process's own pages (no mapped files) at their peak while this is open."""

    def __enter__(self) -> PeakMemory:
        self.begin = self.peak = anonymous_bytes()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(0.001):
            self.peak = max(self.peak, anonymous_bytes())


def anonymous_bytes() -> int:
    """`RssAnon` of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))


def load_in_parts(data: str, run: str, overrides: list[str]) -> dict[str, Any]:
    """Read a model folder as a run does; how much memory that took, and what differs from it."""
    # Freed blocks go back to the system at once: else glibc's heap keeps what a layer took.
    ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, 128 * 1024)
    config = load(data, run, overrides)
    ranks = start_ranks()
    opened = open_data(config)
    values = to_deepspeed(config, hidden_size=describe_model(config.model)["hidden_size"])
    # A first small model: what is imported and set up once is no part of the weights.
    small = load(
        data,
        run,
        [
            line
            for line in overrides
            if not line.startswith(("model.init_from", "model.architecture"))
        ],
    )
    build_model(small, opened, ranks.device, values)
    with PeakMemory() as memory:
        model = build_model(config, opened, ranks.device, values)
    engine = Engine(model, config, values)
    assert config.model.init_from is not None
    stored = PreferenceModel.from_pretrained(config.model.init_from).state_dict()
    state = engine.full_state()
    return {
        "peak_growth_bytes": memory.peak - memory.begin,
        "num_params": sum(tensor.numel() for tensor in stored.values()),
        "num_local_params": engine.num_local_params(),
        "types": sorted({str(parameter.dtype) for parameter in model.parameters()}),
        "different": [
            name
            for name, tensor in state.items()
            if not torch.equal(tensor, stored[name].to(tensor.dtype))
        ],
    }


def hang() -> None:
    """Do nothing for longer than the watchdog allows."""
    Watchdog(0.2)
    time.sleep(60)


def describe_precision(data: str, run: str, overrides: list[str]) -> dict[str, list[str]]:
    """The types of the weights that are computed with and of those that are updated."""
    config = load(data, run, overrides)
    ranks = start_ranks()
    trainer = Trainer(config, open_data(config), ranks)
    optimizer = trainer.engine.engine.optimizer
    masters = optimizer.single_partition_of_fp32_groups
    weights = {str(parameter.dtype) for parameter in trainer.engine.module.parameters()}
    step = make_loader(config, trainer.data, trainer.architecture, ranks).load(0)
    rewards = forward(trainer.engine, step.micro_batches[0], ranks.device)
    return {
        "weights": sorted(weights),
        "masters": sorted({str(master.dtype) for master in masters}),
        "rewards": [str(rewards.dtype)],
        "distinct": [len(torch.unique(rewards)) > len(torch.unique(rewards.bfloat16()))],
    }


def trace_72b() -> dict[str, Any]:
    """Two layers of the 72B model under ZeRO-3 on 64 fake ranks."""
    overrides = ["batch.token_budget=1500", "model.activation_checkpointing=false"]
    config = load_config(TrainConfig, ROOT / "configs/train/72b.yaml", overrides)
    return dataclasses.asdict(trace_step(config, num_layers=2))
