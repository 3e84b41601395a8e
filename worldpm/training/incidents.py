"""What is written down when a step stands out: the spike recorder and the dump of a divergence."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from worldpm.artifacts import write_json
from worldpm.data.loader import Step
from worldpm.log import logger
from worldpm.training.config import MonitorConfig
from worldpm.training.engine import Engine, Ranks
from worldpm.training.monitor import SpikeDetector
from worldpm.training.run_state import RunState

SPIKES_DIRECTORY = "spikes"


@dataclass(frozen=True, slots=True)
class Incident:
    """`RUN/spikes/step-NNNNNNNN.json`: a step that stood out, and all it takes to look again.

    `step` counts from 1, as in `metrics.jsonl`; `gradient_norms` are those of every weight before
    clipping; `snapshot` is the checkpoint before the step, kept for `worldpm train --replay`.
    """

    kind: str
    step: int
    num_pairs_before: int
    loss: float
    grad_norm: float | None
    loss_excess: float
    grad_norm_excess: float
    lr: float
    pair_ids: list[str]
    gradient_norms: dict[str, float] = field(default_factory=dict[str, float])
    snapshot: str | None = None

    def write(self, run_directory: Path) -> Path:
        """Write the record, atomically; numbers that JSON lacks become texts."""
        path = run_directory / SPIKES_DIRECTORY / f"step-{self.step:08d}.json"
        write_json(path, without_nan(asdict(self)))
        return path


def without_nan(value: Any) -> Any:
    """NaN and infinities as texts: JSON has no such numbers."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {key: without_nan(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [without_nan(inner) for inner in value]
    return value


@dataclass(frozen=True, slots=True)
class StepValues:
    """What is looked at before a step's update; no norm where it cannot be had so early."""

    loss: float
    grad_norm: float | None
    lr: float

    @property
    def are_numbers(self) -> bool:
        """Whether loss and norm are finite."""
        return math.isfinite(self.loss) and math.isfinite(self.grad_norm or 0.0)


class IncidentRecorder:
    """Looks at every step before its update; records spikes and goes on, never skips."""

    def __init__(
        self,
        config: MonitorConfig,
        run_directory: Path,
        engine: Engine,
        ranks: Ranks,
        save_snapshot: Callable[[], str],
    ) -> None:
        self._config = config
        self._run_directory = run_directory
        self._engine = engine
        self._ranks = ranks
        self._save_snapshot = save_snapshot
        self._detector = SpikeDetector(config)
        self._num_records = 0

    def observe(self, step: Step, state: RunState, values: StepValues) -> bool:
        """Record what stands out; returns whether training can go on (all values are numbers).

        The values are the same on all ranks, and so is what is decided here.
        """
        if not values.are_numbers:
            self._record("diverged", step, state, values, (0.0, 0.0))
            return False
        is_spike, *excess = self._detector.observe(values.loss, values.grad_norm)
        if is_spike and self._num_records < self._config.max_spike_records:
            self._record("spike", step, state, values, (excess[0], excess[1]))
        return True

    def _record(
        self,
        kind: str,
        step: Step,
        state: RunState,
        values: StepValues,
        excess: tuple[float, float],
    ) -> None:
        # Gradients first: writing a snapshot may free them.
        norms = self._engine.gradient_norms()
        keeps_snapshot = self._num_records < self._config.max_snapshots
        snapshot = self._save_snapshot() if keeps_snapshot else None
        self._num_records += 1
        if not self._ranks.is_main:
            return
        path = Incident(
            kind=kind,
            step=step.number + 1,
            num_pairs_before=state.num_pairs,
            loss=values.loss,
            grad_norm=values.grad_norm,
            loss_excess=excess[0],
            grad_norm_excess=excess[1],
            lr=values.lr,
            pair_ids=step.pair_ids,
            gradient_norms=norms,
            snapshot=snapshot,
        ).write(self._run_directory)
        logger.warning("step %d stands out (%s): recorded in %s", step.number + 1, kind, path)
