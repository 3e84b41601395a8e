"""What a training run leaves for people and for the scaling harness: the files of a run directory.

```
RUN/config.yaml                       the resolved configuration
RUN/run.json                          RunRecord, rewritten at every status change
RUN/metrics.jsonl                     one line a step
RUN/evals/step-NNNNNNNN.json          EvalRecord
RUN/evals/step-NNNNNNNN.parquet       the scores of every pair (schema.PAIR_SCORES_SCHEMA)
RUN/checkpoints/                      for resuming
RUN/model/                            the final checkpoint, portable layout
```
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from worldpm import __version__
from worldpm.artifacts import read_json, write_json
from worldpm.errors import ArtifactError

RUN_FILE = "run.json"
CONFIG_FILE = "config.yaml"
METRICS_FILE = "metrics.jsonl"
EVALS_DIRECTORY = "evals"
CHECKPOINTS_DIRECTORY = "checkpoints"
MODEL_DIRECTORY = "model"

RunStatus = Literal["running", "interrupted", "failed", "completed"]


@dataclass(frozen=True, slots=True)
class RunRecord:
    """`run.json`: what was trained on what, and how far it got.

    `num_params` counts every weight, `num_params_non_embedding` all but the token embedding;
    `num_pairs` and `num_tokens` are consumed so far; `flops` is the training compute so far;
    `pair_chain` is the SHA-256 chain over the consumed pair ids, in order; `head_state` says what
    the score head was before training: `initialised`, `loaded` or `reset`.
    """

    name: str
    status: RunStatus
    model_name: str
    num_params: int
    num_params_non_embedding: int
    seed: int
    step: int
    num_steps: int
    num_pairs: int
    num_tokens: int
    flops: float
    pair_chain: str
    data_fingerprint: str
    world_size: int
    wall_s: float
    config: Mapping[str, Any]
    environment: Mapping[str, Any]
    message: str = ""
    head_state: str = ""

    def write(self, run_directory: Path) -> None:
        """Write `run.json`, atomically."""
        write_json(run_directory / RUN_FILE, asdict(self))

    @classmethod
    def read(cls, run_directory: Path) -> RunRecord:
        """Read `run.json`.

        Raises:
            ArtifactError: it is missing or has other fields.
        """
        return _from_json(cls, run_directory / RUN_FILE)


@dataclass(frozen=True, slots=True)
class TestSetResult:
    """One test set at one step; errors are standard errors over items.

    `kind` is a `schema.TestSetKind`; a tie counts as half right (the paper's rule).
    """

    kind: str
    num_items: int
    num_pairs: int
    bt_loss: float
    bt_loss_standard_error: float
    accuracy: float
    accuracy_standard_error: float
    num_ties: int
    length_baseline_accuracy: float
    num_dropped: int = 0

    # pytest must not collect a class whose name begins with Test.
    __test__ = False


@dataclass(frozen=True, slots=True)
class EvalRecord:
    """`evals/step-NNNNNNNN.json`: all test sets after `num_pairs` training pairs."""

    step: int
    num_pairs: int
    num_tokens: int
    flops: float
    test_sets: Mapping[str, TestSetResult] = field(default_factory=dict[str, TestSetResult])

    def write(self, run_directory: Path) -> None:
        """Write the record, atomically."""
        write_json(eval_path(run_directory, self.step), asdict(self))


def eval_path(run_directory: Path, step: int, suffix: str = ".json") -> Path:
    """Where the evaluation after `step` steps stands."""
    return run_directory / EVALS_DIRECTORY / f"step-{step:08d}{suffix}"


def read_evals(run_directory: Path) -> Iterator[EvalRecord]:
    """The evaluations of a run, by increasing step.

    Raises:
        ArtifactError: a file has other fields.
    """
    for path in sorted((run_directory / EVALS_DIRECTORY).glob("step-*.json")):
        record = _from_json(EvalRecord, path)
        yield EvalRecord(
            step=record.step,
            num_pairs=record.num_pairs,
            num_tokens=record.num_tokens,
            flops=record.flops,
            test_sets={
                name: TestSetResult(**result)  # pyright: ignore[reportCallIssue]
                for name, result in record.test_sets.items()
            },
        )


def read_metrics(run_directory: Path) -> Iterator[dict[str, Any]]:
    """The lines of `metrics.jsonl`; a last line cut by a kill is left out."""
    path = run_directory / METRICS_FILE
    if not path.exists():
        return
    with path.open(encoding="utf-8") as file:
        for line in file:
            if line.endswith("\n"):
                yield json.loads(line)


def describe_environment() -> dict[str, Any]:
    """Versions, machine and commit, for the record of a run."""
    packages = ("torch", "deepspeed", "transformers", "tokenizers", "pyarrow", "duckdb", "numpy")
    installed = {dist.metadata["Name"].lower(): dist.version for dist in metadata.distributions()}
    return {
        "worldpm": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: installed[name] for name in packages if name in installed},
        "commit": _git("rev-parse", "HEAD"),
        "uncommitted_changes": bool(_git("status", "--porcelain")),
        "command": sys.argv,
    }


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *arguments],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _from_json(record_type: type[Any], path: Path) -> Any:
    try:
        return record_type(**read_json(path))
    except TypeError as exc:
        raise ArtifactError(f"{path} was written by another version: {exc}") from exc
