"""A whole ZeRO step without GPUs or memory: fake ranks, tensors without storage.

Partition sizes, FLOPs and the bytes that stand at once are those of the real step, since the real
engine takes it; collectives do nothing, values are none, and time means nothing.
"""

from __future__ import annotations

import weakref
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from worldpm.data.packing import PackedBatch, pack_groups
from worldpm.data.token_group import TokenGroup
from worldpm.modeling.packing_plan import PackingPlan
from worldpm.modeling.preference_model import PreferenceModel
from worldpm.schema import Pair
from worldpm.training import engine as distributed
from worldpm.training.architecture import describe_model
from worldpm.training.assembly import match_partitioned_weights
from worldpm.training.config import TrainConfig
from worldpm.training.deepspeed_config import to_deepspeed
from worldpm.training.engine import Engine
from worldpm.training.flops import count_parameters, training_flops
from worldpm.training.memory import GIB
from worldpm.training.objective import batch_loss
from worldpm.training.plan import ASSUMED_VOCABULARY

# A question of 180 tokens and two answers of 220: StackExchange's medians.
PROMPT_TOKENS, RESPONSE_TOKENS = 180, 220


@dataclass(frozen=True, slots=True)
class StepTrace:
    """What one rank of the traced step holds and computes.

    `built_bytes` stand before the step. `peak_bytes` is None with activation checkpointing: tensors
    without storage are then held to the end of the backward pass, while real ones are freed.
    """

    world_size: int
    num_params: int
    num_local_params: int
    num_tokens: int
    counted_flops: float
    formula_flops: float
    built_bytes: int
    peak_bytes: int | None


def trace_step(config: TrainConfig, *, num_layers: int | None = None) -> StepTrace:
    """Build the configured model on `cluster.gpus` fake ranks and take one step on rank 0.

    `num_layers` cuts the model's depth. The process cannot train afterwards.
    """
    architecture = describe_model(config.model)
    architecture.setdefault("vocab_size", ASSUMED_VOCABULARY)
    if num_layers is not None:
        architecture["num_hidden_layers"] = num_layers
    values = to_deepspeed(config, hidden_size=architecture["hidden_size"])
    batch = _example_batch(config.batch.token_budget)
    with distributed.fake_ranks(config.cluster.gpus), _with_layout_of(batch), _without_values():
        with (
            FakeTensorMode(allow_non_fake_inputs=True),
            FlopCounterMode(display=False) as counter,
            LiveBytes() as memory,
        ):
            model = _build(config, architecture, values)
            engine = Engine(model, config, values)
            built_bytes = memory.live
            memory.peak = memory.live
            _take_step(engine, batch, config)
        return StepTrace(
            world_size=config.cluster.gpus,
            num_params=count_parameters(architecture).total,
            num_local_params=engine.num_local_params(),
            num_tokens=batch.num_tokens,
            counted_flops=float(counter.get_total_flops()),
            formula_flops=training_flops(
                architecture,
                num_tokens=batch.num_tokens,
                num_attended=_num_attended(batch),
            ),
            built_bytes=built_bytes,
            peak_bytes=None if config.model.activation_checkpointing else memory.peak,
        )


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of all tensors that stand at once, storage by storage."""

    def __init__(self) -> None:
        super().__init__()
        self.live = 0
        self.peak = 0
        self._seen: dict[int, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operation and count the storages of its results."""
        result = func(*args, **(kwargs or {}))
        for value in tree_leaves(result):
            if isinstance(value, torch.Tensor):
                self._count(value.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key in self._seen:
            return
        self._seen[key] = storage.nbytes()
        self.live += self._seen[key]
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._forget, key)

    def _forget(self, key: int) -> None:
        self.live -= self._seen.pop(key)


def _build(config: TrainConfig, architecture: dict[str, Any], values: Any) -> PreferenceModel:
    shape = {key: value for key, value in architecture.items() if key != "name"}
    partitioned = config.deepspeed.stage == 3
    with distributed.partitioned_construction(values, enabled=partitioned):
        model = PreferenceModel.from_architecture(
            shape, seed=config.seed, attention="segments", dtype=config.model.precision
        )
    match_partitioned_weights(model)
    if config.model.activation_checkpointing:
        model.gradient_checkpointing_enable()
    return model


def _take_step(engine: Engine, batch: PackedBatch, config: TrainConfig) -> None:
    engine.begin_micro_batch(is_last=True)
    rewards_R = engine.forward(
        torch.zeros(batch.num_tokens, dtype=torch.int64),
        torch.zeros(batch.num_tokens, dtype=torch.int64),
        torch.from_numpy(batch.segments),
        torch.zeros(len(batch.reward_index), dtype=torch.int64),
    )
    engine.backward(batch_loss(rewards_R, batch, config.loss).objective / batch.num_pairs)
    engine.step(config.optimizer.lr)


def _example_batch(token_budget: int) -> PackedBatch:
    group = TokenGroup.from_ids(
        "example", [1] * PROMPT_TOKENS, [[1] * RESPONSE_TOKENS] * 2, [Pair(0, 1)]
    )
    return pack_groups([group] * max(1, token_budget // group.num_tokens))


def _num_attended(batch: PackedBatch) -> float:
    lengths = batch.segments[:, 1] - batch.segments[:, 0]
    prefixes = batch.segments[:, 3] - batch.segments[:, 2]
    return float((lengths.astype(np.float64) ** 2 / 2 + lengths * prefixes).sum())


@contextmanager
def _with_layout_of(batch: PackedBatch) -> Generator[None]:
    """Segments and reward positions decide the attention calls; a fake tensor has no values."""
    plan = PackingPlan.from_segments(torch.from_numpy(batch.segments), batch.num_tokens)
    at_rewards = plan.at_rows(torch.from_numpy(batch.reward_index))
    with (
        patch.object(PackingPlan, "from_segments", lambda segments, num_tokens: plan),
        patch.object(PackingPlan, "at_rows", lambda whole, rows: at_rewards),
    ):
        yield


@contextmanager
def _without_values() -> Generator[None]:
    """DeepSpeed asks gradients for overflow and norms for their value: a fake one says 1."""
    saved = {name: getattr(torch.Tensor, name) for name in ("item", "__bool__", "__float__")}
    answers = {"item": 1.0, "__bool__": False, "__float__": 1.0}

    def answer(name: str) -> Any:
        def method(tensor: torch.Tensor) -> Any:
            return answers[name] if isinstance(tensor, FakeTensor) else saved[name](tensor)

        return method

    for name in saved:
        setattr(torch.Tensor, name, answer(name))
    try:
        yield
    finally:
        for name, method in saved.items():
            setattr(torch.Tensor, name, method)


def trace_lines(config: TrainConfig, *, num_layers: int | None = None) -> list[str]:
    """The trace for people, a line each."""
    found = trace_step(config, num_layers=num_layers)
    share = found.num_params / found.num_local_params
    peak = ""
    if found.peak_bytes is not None:
        peak = f", {found.peak_bytes / GIB:.2f} GiB at its peak (attention by segments)"
    return [
        f"trace            {found.num_params:,} parameters, {found.num_local_params:,} on one of "
        f"{found.world_size} ranks (1/{share:.2f})",
        f"                 {found.num_tokens:,} tokens: {found.counted_flops:.3e} FLOP counted, "
        f"{found.formula_flops:.3e} by formula "
        f"({found.counted_flops / found.formula_flops:.3f})",
        f"                 this rank holds {found.built_bytes / GIB:.2f} GiB before the step{peak}",
    ]
