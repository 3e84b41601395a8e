"""Watch a run: robust bands that tell a spike, the record of one, and honest speed."""

from __future__ import annotations

import math
import resource
import statistics
from collections import deque
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from worldpm.artifacts import write_json
from worldpm.training.config import MonitorConfig

SPIKES_DIRECTORY = "spikes"
# A median needs a few steps before it says anything.
MIN_STEPS_FOR_BAND = 8
# 1.4826 × the median absolute deviation estimates the standard deviation of a normal sample.
MAD_TO_DEVIATION = 1.4826

# Dense bf16 peaks by the vendors' data sheets, in FLOP/s.
PEAK_FLOPS = {
    "H100 PCIe": 756e12,
    "H100": 989e12,
    "H800": 989e12,
    "H200": 989e12,
    "B200": 2250e12,
    "A100": 312e12,
    "A800": 312e12,
    "L40S": 362e12,
}


def peak_flops(device_name: str) -> float | None:
    """The peak of a GPU by its name, where known."""
    for name, peak in PEAK_FLOPS.items():
        if all(part in device_name for part in name.split()):
            return peak
    return None


class RobustBand:
    """The median of the last values and how far a new one lies outside their usual spread."""

    def __init__(self, window: int) -> None:
        self._values: deque[float] = deque(maxlen=window)

    def excess(self, value: float) -> float:
        """Distance from the median in robust standard deviations; 0 while there is too little."""
        if len(self._values) < MIN_STEPS_FOR_BAND:
            return 0.0
        median = statistics.median(self._values)
        spread = MAD_TO_DEVIATION * statistics.median(abs(old - median) for old in self._values)
        # Equal values have no spread: a hundredth of the median then counts as one deviation.
        return abs(value - median) / max(spread, 0.01 * abs(median), 1e-12)

    def add(self, value: float) -> None:
        """Take a value into the window."""
        self._values.append(value)


@dataclass(frozen=True, slots=True)
class SpikeRecord:
    """`RUN/spikes/step-NNNNNNNN.json`: what stood out, and all that is needed to look again.

    `norms` are the gradient's norms weight by weight, empty where they could not be had before the
    update; `snapshot` is the checkpoint kept for it.
    """

    step: int
    num_pairs: int
    loss: float
    grad_norm: float | None
    loss_excess: float
    grad_norm_excess: float
    lr: float
    pair_ids: list[str]
    norms: dict[str, float] = field(default_factory=dict[str, float])
    snapshot: str | None = None

    def write(self, run_directory: Path, name: str = "step") -> Path:
        """Write the record, atomically."""
        path = run_directory / SPIKES_DIRECTORY / f"{name}-{self.step:08d}.json"
        values = asdict(self)
        for key in ("loss", "grad_norm"):
            # JSON has no NaN: a value that is none is written as text.
            if values[key] is not None and not math.isfinite(values[key]):
                values[key] = str(values[key])
        values["norms"] = {
            key: value if math.isfinite(value) else str(value)
            for key, value in values["norms"].items()
        }
        write_json(path, values)
        return path


class SpikeDetector:
    """Tells spikes of loss and gradient norm; every value enters the window, spikes too."""

    def __init__(self, config: MonitorConfig) -> None:
        self._threshold = config.spike_threshold
        self._loss = RobustBand(config.window)
        self._grad_norm = RobustBand(config.window)

    def observe(self, loss: float, grad_norm: float | None) -> tuple[bool, float, float]:
        """Whether this step is a spike, and how far loss and norm lie outside their bands."""
        loss_excess = self._loss.excess(loss)
        norm_excess = 0.0 if grad_norm is None else self._grad_norm.excess(grad_norm)
        self._loss.add(loss)
        if grad_norm is not None:
            self._grad_norm.add(grad_norm)
        return max(loss_excess, norm_excess) > self._threshold, loss_excess, norm_excess


@dataclass(frozen=True, slots=True)
class StepSpeed:
    """Speed of one step over all ranks, from real tokens: no padding, no filler, no repeats."""

    num_tokens: int
    num_pairs: int
    num_computed_tokens: float
    flops: float
    wall_s: float
    input_stall_s: float
    world_size: int
    peak_flops: float | None

    def metrics(self) -> dict[str, Any]:
        """The numbers of a log line."""
        mfu = None
        if self.peak_flops is not None:
            mfu = self.flops / self.wall_s / (self.peak_flops * self.world_size)
        return {
            "tokens_per_s": self.num_tokens / self.wall_s,
            "pairs_per_s": self.num_pairs / self.wall_s,
            "mfu": mfu,
            "padding_share": 1 - self.num_tokens / self.num_computed_tokens,
            "input_stall_s": self.input_stall_s,
            "step_s": self.wall_s,
        }


def peak_memory_bytes() -> int:
    """The largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
