"""Where metrics go: always `metrics.jsonl`, and on request TensorBoard, W&B or trackio."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

from worldpm.artifacts import atomic_file, fingerprint
from worldpm.errors import MissingDependencyError
from worldpm.run_record import METRICS_FILE, read_metrics
from worldpm.training.config import TrackingConfig

EXTRA = "tracking"


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
    """Scalars below `RUN/tensorboard`; a resumed run hides the points it will write again."""

    def __init__(self, run_directory: Path, last_step: int) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as exc:
            raise MissingDependencyError("tensorboard", EXTRA, "tracking.tensorboard") from exc
        self._writer = SummaryWriter(str(run_directory / "tensorboard"), purge_step=last_step + 1)

    def log(self, step: int, values: Mapping[str, Any]) -> None:
        """Write every number."""
        for name, value in _numbers(values).items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Flush."""
        self._writer.close()


class WandbTracker:
    """A W&B run, its files below `RUN/wandb`; a resumed run goes on under the same id.

    W&B takes no step twice, so the step is a value like the others and the axis of all of them.
    """

    def __init__(
        self, project: str, run_directory: Path, run_name: str, config: Mapping[str, Any]
    ) -> None:
        wandb = _import("wandb", "tracking.wandb_project")
        self._run = wandb.init(
            project=project,
            name=run_name,
            id=fingerprint(str(run_directory.absolute()))[:16],
            resume="allow",
            dir=str(run_directory),
            config=dict(config),
        )
        self._run.define_metric("*", step_metric="step")

    def log(self, step: int, values: Mapping[str, Any]) -> None:
        """Send every number."""
        self._run.log({**_numbers(values), "step": step})

    def close(self) -> None:
        """Finish the run."""
        self._run.finish()


class TrackioTracker:
    """A run of trackio, kept on this machine (`TRACKIO_DIR` says where)."""

    def __init__(self, project: str, run_name: str, config: Mapping[str, Any]) -> None:
        trackio = _import("trackio", "tracking.trackio_project")
        self._run = trackio.init(
            project=project, name=run_name, config=dict(config), resume="allow", embed=False
        )

    def log(self, step: int, values: Mapping[str, Any]) -> None:
        """Record every number."""
        self._run.log(_numbers(values), step=step)

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
    with ExitStack() as opened:
        trackers: list[Tracker] = []
        for tracker in _open_each(config, run_directory, last_step, run_name, run_config):
            opened.callback(tracker.close)
            trackers.append(tracker)
        opened.pop_all()  # all are open: from here on their user closes them
    return trackers


def _open_each(
    config: TrackingConfig,
    run_directory: Path,
    last_step: int,
    run_name: str,
    run_config: Mapping[str, Any],
) -> Iterator[Tracker]:
    yield JsonLinesTracker(run_directory, last_step)
    if config.tensorboard:
        yield TensorBoardTracker(run_directory, last_step)
    if config.wandb_project is not None:
        yield WandbTracker(config.wandb_project, run_directory, run_name, run_config)
    if config.trackio_project is not None:
        yield TrackioTracker(config.trackio_project, run_name, run_config)


def _import(package: str, key: str) -> Any:
    try:
        return importlib.import_module(package)
    except ImportError as exc:
        raise MissingDependencyError(package, EXTRA, key) from exc


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    return {
        name: float(value)
        for name, value in values.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
