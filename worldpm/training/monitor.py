"""Robust bands that tell a spike, and the peaks of known accelerators; without torch."""

from __future__ import annotations

import statistics
from collections import deque

from worldpm.training.config import MonitorConfig

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
