"""What a stage of the build is: a static list of tasks that each write files of their own.

A stage writes into a hidden directory; each finished task leaves a marker with its counts; the last
step merges the counts into the manifest and gives the directory its name. Killed at any moment, the
next run continues with the tasks that have no marker, and the bytes are the same.
"""

from __future__ import annotations

import shutil
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

from worldpm.artifacts import (
    Manifest,
    StageCounts,
    describe_files,
    fingerprint,
    is_current,
    publish_directory,
    read_json,
    source_sha256,
    write_json,
)

MARKERS = ".done"
FINGERPRINT_FILE = "fingerprint"


@dataclass(frozen=True, slots=True)
class TaskResult:
    """What a task reports: counts by name (mostly one, the stage's own), and notes for the card.

    A note is a JSON object, for example where damage was found.
    """

    counts: Mapping[str, StageCounts]
    notes: Sequence[Mapping[str, Any]] = field(default_factory=list[Mapping[str, Any]])


@dataclass(frozen=True)
class Stage(ABC):
    """One step of the build, as a value that can be sent to another process or machine.

    `directory` is where its output stands when it is whole.
    """

    directory: Path

    @property
    @abstractmethod
    def name(self) -> str:
        """The field's word for the step; also its key in counts and messages."""

    @property
    def modules(self) -> tuple[ModuleType, ...]:
        """The modules beside the stage's own whose code decides the result."""
        return ()

    @abstractmethod
    def settings(self) -> Mapping[str, Any]:
        """The part of the configuration (and of foreign inputs) that decides the result, as JSON.

        Never the number of workers, the executor or an output path.
        """

    @abstractmethod
    def upstream(self) -> tuple[Stage, ...]:
        """The stages whose output this one reads."""

    @abstractmethod
    def tasks(self) -> list[str]:
        """The static list of tasks; asked only when every upstream stage is whole.

        A task's name is a file name: letters, digits, dots, dashes, underscores.
        """

    @abstractmethod
    def run_task(self, task: str, directory: Path) -> TaskResult:
        """Do one task: read the upstream directories, write files of its own into `directory`.

        Files are named after the task; files that a killed attempt left are overwritten.
        """

    def finish(self, directory: Path, results: Mapping[str, TaskResult]) -> Mapping[str, Any]:
        """Do what needs all tasks, in one process; returns further entries of the manifest."""
        del directory, results
        return {}

    @cached_property
    def fingerprint(self) -> str:
        """Covers settings, code and, through upstream, every input."""
        return fingerprint(
            self.name,
            _code_version((sys.modules[type(self).__module__], *self.modules)),
            self.settings(),
            [stage.fingerprint for stage in self.upstream()],
        )

    @property
    def is_whole(self) -> bool:
        """Whether the directory was made by exactly this configuration, input and code."""
        return is_current(self.directory, self.fingerprint)

    @property
    def partial_directory(self) -> Path:
        """Where the tasks write until all are done."""
        return self.directory.with_name(f".{self.directory.name}.partial")


@lru_cache(maxsize=256)
def _code_version(modules: tuple[ModuleType, ...]) -> str:
    return source_sha256(*modules)


def prepare(stage: Stage) -> None:
    """Make the hidden directory, or keep it with its finished tasks if it has this fingerprint."""
    partial = stage.partial_directory
    note = partial / FINGERPRINT_FILE
    if note.is_file() and note.read_text(encoding="utf-8") == stage.fingerprint:
        return
    shutil.rmtree(partial, ignore_errors=True)
    (partial / MARKERS).mkdir(parents=True)
    note.write_text(stage.fingerprint, encoding="utf-8")


def missing_tasks(stage: Stage) -> list[str]:
    """The tasks without a completion marker, in the order of the list."""
    markers = stage.partial_directory / MARKERS
    return [task for task in stage.tasks() if not (markers / f"{task}.json").is_file()]


def run_and_mark(stage: Stage, task: str) -> None:
    """Run one task and leave its marker: what a worker process, a rank or a Ray task calls."""
    result = stage.run_task(task, stage.partial_directory)
    for name, counts in result.counts.items():
        counts.check(f"{stage.name} {task} {name}")
    write_json(
        stage.partial_directory / MARKERS / f"{task}.json",
        {
            "counts": {name: asdict(counts) for name, counts in result.counts.items()},
            "notes": list(result.notes),
        },
    )


def publish(stage: Stage) -> None:
    """Merge the counts of all tasks, write the manifest and give the directory its name."""
    partial = stage.partial_directory
    results = {task: _read_marker(partial / MARKERS / f"{task}.json") for task in stage.tasks()}
    further = dict(stage.finish(partial, results))
    (partial / FINGERPRINT_FILE).unlink()
    _remove_hidden(partial)
    counts: dict[str, StageCounts] = {}
    for result in results.values():
        for name, part in result.counts.items():
            counts.setdefault(name, StageCounts()).add(part)
    Manifest(
        kind=stage.name,
        fingerprint=stage.fingerprint,
        config={**stage.settings(), **further.pop("config", {})},
        inputs={upstream.name: upstream.fingerprint for upstream in stage.upstream()},
        counts={
            **{name: _in_order(total) for name, total in counts.items()},
            **further.pop("counts", {}),
            "notes": [note for result in results.values() for note in result.notes],
            **further,
        },
        files=describe_files(partial),
    ).write(partial)
    publish_directory(partial, stage.directory)


def _remove_hidden(directory: Path) -> None:
    """Markers, spilled rows, and what killed writers left."""
    for path in list(directory.rglob(".*")):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _in_order(counts: StageCounts) -> dict[str, Any]:
    return {**asdict(counts), "dropped": dict(sorted(counts.dropped.items()))}


def _read_marker(path: Path) -> TaskResult:
    value = read_json(path)
    return TaskResult(
        {name: StageCounts(**counts) for name, counts in value["counts"].items()}, value["notes"]
    )
