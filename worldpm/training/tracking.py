"""Where metrics go: always `metrics.jsonl`, and on request TensorBoard, W&B or trackio."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from worldpm.artifacts import atomic_file
from worldpm.errors import MissingDependencyError
from worldpm.run_record import METRICS_FILE, read_metrics
from worldpm.training.config import TrackingConfig


class Tracker(Protocol):
    """A place that takes numbers by name and step."""

    def log(self, step: int, values: Mapping[str, Any]) -> None:
        """Record the values of one step."""
        ...

    def close(self) -> None:
        """Write what is buffered."""
        ...


class JsonLinesTracker:
    """`metrics.jsonl`: one line a step; a resumed run drops the lines it will write again."""

    def __init__(self, run_directory: Path, last_step: int) -> None:
        path = run_directory / METRICS_FILE
        kept = [line for line in read_metrics(run_directory) if line["step"] <= last_step]
        with atomic_file(path) as file:
            file.writelines(json.dumps(line) + "\n" for line in kept)
        self._file = path.open("a", encoding="utf-8", buffering=1)

    def log(self, step: int, values: Mapping[str, Any]) -> None:
        """Append one line."""
        self._file.write(json.dumps({"step": step, **values}) + "\n")

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class TensorBoardTracker:
    """Scalars below `RUN/tensorboard`."""

    def __init__(self, run_directory: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as exc:
            raise MissingDependencyError("tensorboard", "tracking", "tracking.tensorboard") from exc
        self._writer = SummaryWriter(str(run_directory / "tensorboard"))

    def log(self, step: int, values: Mapping[str, Any]) -> None:
        """Write every number."""
        for name, value in _numbers(values).items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Flush."""
        self._writer.close()


class HostedTracker:
    """W&B or trackio: the two share one interface."""

    def __init__(
        self, package: str, project: str, run_name: str, config: Mapping[str, Any]
    ) -> None:
        import importlib

        try:
            module = importlib.import_module(package)
        except ImportError as exc:
            key = f"tracking.{package}_project"
            raise MissingDependencyError(package, "tracking", key) from exc
        self._run = module.init(project=project, name=run_name, config=dict(config))

    def log(self, step: int, values: Mapping[str, Any]) -> None:
        """Send every number."""
        self._run.log({**_numbers(values), "step": step})

    def close(self) -> None:
        """Finish the run."""
        self._run.finish()


def open_trackers(
    config: TrackingConfig,
    run_directory: Path,
    *,
    last_step: int,
    run_name: str,
    run_config: Mapping[str, Any],
) -> list[Tracker]:
    """Open all configured places.

    Raises:
        MissingDependencyError: a package is not installed; the text has the line that does.
    """
    trackers: list[Tracker] = [JsonLinesTracker(run_directory, last_step)]
    if config.tensorboard:
        trackers.append(TensorBoardTracker(run_directory))
    hosted = {"wandb": config.wandb_project, "trackio": config.trackio_project}
    for package, project in hosted.items():
        if project is not None:
            trackers.append(HostedTracker(package, project, run_name, run_config))
    return trackers


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    return {
        name: float(value)
        for name, value in values.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
