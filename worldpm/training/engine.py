"""The only module that knows DeepSpeed: ranks, gradients, the optimizer step, saved states.

The rest of the trainer sees `Engine`, whose calls are few: `forward`, `backward`, `step`.
"""

from __future__ import annotations

import os
import socket
import warnings
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch

if not torch.cuda.is_available():
    # Said rather than guessed: DeepSpeed warns about a guess.
    os.environ.setdefault("DS_ACCELERATOR", "cpu")

import deepspeed
import deepspeed.ops
from deepspeed.utils import safe_get_full_grad
from torch import nn

from worldpm.errors import CheckpointError
from worldpm.training.collectives import all_reduce_sum
from worldpm.training.config import TrainConfig
from worldpm.training.parameter_groups import parameter_groups

# The shared-memory all-reduce is an inference kernel; on a CPU its compilation would hold up the
# first start by minutes, and two processes would wait on each other's build lock.
deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False


@dataclass(frozen=True, slots=True)
class Ranks:
    """This process among all."""

    rank: int
    local_rank: int
    world_size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """Whether this process writes the files that exist once."""
        return self.rank == 0


def start_ranks(timeout_s: float = 1800.0) -> Ranks:
    """Join the process group; without a launcher this process is the only rank."""
    _silence_collectives()
    if "RANK" not in os.environ:
        os.environ.update(
            RANK="0",
            LOCAL_RANK="0",
            WORLD_SIZE="1",
            MASTER_ADDR="127.0.0.1",
            MASTER_PORT=str(_free_port()),
        )
    if not torch.distributed.is_initialized():
        backend = "nccl" if torch.cuda.is_available() else "gloo"
        deepspeed.init_distributed(
            dist_backend=backend,
            timeout=timedelta(seconds=timeout_s),
            verbose=False,
            dist_init_required=True,
        )
    _share_cores()
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    device = torch.device("cpu")
    if torch.cuda.is_available():
        torch.cuda.set_device(local_rank)
        device = torch.device("cuda", local_rank)
    return Ranks(
        rank=torch.distributed.get_rank(),
        local_rank=local_rank,
        world_size=torch.distributed.get_world_size(),
        device=device,
    )


def _silence_collectives() -> None:
    # torch's advice to DeepSpeed, printed at every collective of stage 3.
    warnings.filterwarnings("ignore", r".*(all_gather_into|reduce_scatter)_tensor.* is deprecated")


@contextmanager
def fake_ranks(world_size: int) -> Generator[None]:
    """Pretend to be rank 0 of many: collectives return at once and change nothing."""
    from deepspeed.runtime.zero import partitioned_param_coordinator as coordinator
    from torch.testing._internal.distributed.fake_pg import FakeStore

    _silence_collectives()
    # It compares the ranks' traces by their values, and fake ranks have none.
    compare, name = coordinator.assert_ints_same_as_other_ranks, "assert_ints_same_as_other_ranks"
    setattr(coordinator, name, lambda ints: None)

    torch.distributed.init_process_group("fake", store=FakeStore(), rank=0, world_size=world_size)
    os.environ.update(RANK="0", LOCAL_RANK="0", WORLD_SIZE=str(world_size))
    deepspeed.init_distributed(dist_backend="fake", auto_mpi_discovery=False, verbose=False)
    try:
        yield
    finally:
        setattr(coordinator, name, compare)
        torch.distributed.destroy_process_group()


def _share_cores() -> None:
    # Without the variable every rank would take all cores, and their threads wait on each other.
    if "OMP_NUM_THREADS" not in os.environ:
        ranks_here = int(os.environ.get("LOCAL_WORLD_SIZE", os.environ["WORLD_SIZE"]))
        torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // ranks_here))


def stop_ranks() -> None:
    """Leave the process group."""
    if torch.distributed.is_initialized():
        # DeepSpeed's own: it forgets its groups, and another run in this process can begin.
        deepspeed.comm.destroy_process_group()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def partitioned_construction(values: Mapping[str, Any], *, enabled: bool) -> Generator[None]:
    """While this is open, `transformers` reads a model straight into ZeRO-3's partitions."""
    if not enabled:
        yield
        return
    from transformers.integrations.deepspeed import HfDeepSpeedConfig, unset_hf_deepspeed_config

    # transformers holds it by a weak reference: it must live as long as the block.
    holder = HfDeepSpeedConfig(dict(values))
    try:
        yield
    finally:
        del holder
        unset_hf_deepspeed_config()


class Engine:
    """A model under DeepSpeed, driven one micro-batch at a time.

    The gradient of a step is that of Σ loss over all micro-batches of all ranks: a caller that
    divides by the pairs of the whole step gets the same gradient on any number of ranks.
    """

    def __init__(self, model: nn.Module, config: TrainConfig, values: Mapping[str, Any]) -> None:
        groups = parameter_groups(model, config.optimizer)
        self._group_settings = [
            {key: value for key, value in group.items() if key != "params"} for group in groups
        ]
        optimizer = _build_optimizer(groups, config)
        # DeepSpeed's own annotations are unions over all its optimizers.
        self.engine: Any = deepspeed.initialize(
            model=model,
            optimizer=optimizer,
            config=dict(values),
            dist_init_required=False,
        )[0]
        self._world_size = torch.distributed.get_world_size()
        self._config = config.optimizer

    def begin_micro_batch(self, *, is_last: bool) -> None:
        """Say before each forward pass of training whether it is the step's last."""
        self.engine.set_gradient_accumulation_boundary(is_last)

    def forward(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Run the model."""
        return self.engine(*args, **kwargs)

    def backward(self, loss: torch.Tensor) -> None:
        """Add the gradient of one micro-batch."""
        # DeepSpeed averages over ranks; the loss is a sum, so the average is undone here.
        self.engine.backward(loss * self._world_size, scale_wrt_gas=False)

    def gradient_norm(self) -> float | None:
        """The norm of the step's whole gradient, before `step`; None where it is offloaded."""
        if self.stage == 0:
            gradients = [p.grad for p in self.module.parameters() if p.grad is not None]
        else:
            averaged = self.engine.optimizer.averaged_gradients
            gradients = [g for group in averaged.values() if group is not None for g in group]
        if not gradients:
            return None
        squares = torch.stack([gradient.double().square().sum() for gradient in gradients]).sum()
        # Stage 0 holds the whole gradient on every rank, the others a part each.
        return float((squares if self.stage == 0 else all_reduce_sum(squares)).sqrt())

    def step(self, lr: float) -> float | None:
        """Update the weights at this learning rate; returns DeepSpeed's norm, where it has one."""
        for group in self.engine.optimizer.param_groups:
            group["lr"] = lr * group["lr_multiplier"]
        self.engine.step()
        norm = self.engine.get_global_grad_norm()
        return None if norm is None else float(norm)

    @property
    def module(self) -> nn.Module:
        """The model itself."""
        return self.engine.module

    @property
    def stage(self) -> int:
        """The ZeRO stage."""
        return int(self.engine.zero_optimization_stage())

    def gradient_norms(self) -> dict[str, float]:
        """The norm of every weight's whole gradient, before `step`; all ranks must call."""
        return {name: float(value.norm()) for name, value in self.full_gradients()}

    def full_gradients(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Every weight's whole gradient in fp32, one after the other, before `step`.

        All ranks must go through all of them.
        """
        for name, parameter in self.module.named_parameters():
            gradient = parameter.grad if self.stage == 0 else safe_get_full_grad(parameter)
            if gradient is not None:
                yield name, gradient.detach().float()

    def full_state(self) -> dict[str, torch.Tensor]:
        """Every trained weight whole on rank 0, an empty mapping elsewhere; all ranks must call."""
        is_main = torch.distributed.get_rank() == 0
        state: dict[str, torch.Tensor] = {}
        for name, parameter in self.module.named_parameters():
            if not parameter.requires_grad:
                continue
            with deepspeed.zero.GatheredParameters([parameter], enabled=self.stage == 3):
                if is_main:
                    state[name] = parameter.detach().cpu().clone()
        return state

    def save(self, folder: Path, tag: str) -> None:
        """Write this rank's part of weights and optimizer below `folder/tag`."""
        self.engine.save_checkpoint(str(folder), tag=tag, save_latest=False)

    def load(self, folder: Path, tag: str) -> None:
        """Load weights and optimizer on all ranks.

        Raises:
            CheckpointError: DeepSpeed found nothing to load.
        """
        path, _ = self.engine.load_checkpoint(str(folder), tag=tag)
        if path is None:
            raise CheckpointError(f"{folder / tag} holds no checkpoint that DeepSpeed can load")
        self._mend_loaded_optimizer()

    def _mend_loaded_optimizer(self) -> None:
        # A universal checkpoint of stage 3 loads with two faults (DeepSpeed 0.19.8): all weights
        # share one step counter, which then counts once a group instead of once a step, and all
        # groups get the first group's settings, so that norms and biases decay.
        zero_optimizer = self.engine.optimizer
        optimizer = getattr(zero_optimizer, "optimizer", zero_optimizer)
        for state in optimizer.state.values():
            if isinstance(state.get("step"), torch.Tensor):
                state["step"] = state["step"].clone()
        for group, settings in zip(optimizer.param_groups, self._group_settings, strict=True):
            group.update(settings)

    def num_local_params(self) -> int:
        """Weights of which this rank holds its part: all of them below stage 3."""
        parameters = self.module.parameters()
        return sum(getattr(parameter, "ds_tensor", parameter).numel() for parameter in parameters)

    def destroy(self) -> None:
        """Free the engine's buffers and hooks."""
        self.engine.destroy()


def _build_optimizer(groups: list[dict[str, Any]], config: TrainConfig) -> torch.optim.Optimizer:
    options = config.optimizer
    common: dict[str, Any] = {"lr": options.lr, "betas": options.betas, "eps": options.epsilon}
    implementation = options.implementation
    if implementation == "auto":
        offloaded = config.deepspeed.offload_optimizer != "none"
        implementation = "cpu" if offloaded else "fused" if torch.cuda.is_available() else "torch"
    if implementation == "cpu":
        from deepspeed.ops.adam import DeepSpeedCPUAdam

        return DeepSpeedCPUAdam(groups, adamw_mode=True, **common)
    if implementation == "fused":
        from deepspeed.ops.adam import FusedAdam

        return FusedAdam(groups, adam_w_mode=True, **common)
    return torch.optim.AdamW(groups, foreach=False, **common)
