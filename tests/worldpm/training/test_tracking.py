"""Metrics arrive at every configured place and can be read back from it."""

from __future__ import annotations

import importlib
import json
import struct
import sys
from pathlib import Path

import pytest

from worldpm.errors import MissingDependencyError
from worldpm.training.config import TrackingConfig
from worldpm.training.tracking import open_trackers

LINES = [
    {"loss": 0.7, "accuracy": 0.5, "mfu": None},
    {"loss": 0.6, "accuracy": 0.625, "mfu": None},
    {"loss": 0.55, "accuracy": 0.75, "mfu": None},
]


def write_run(folder: Path, config: TrackingConfig, *, last_step: int = 0) -> None:
    """Log the lines after `last_step` to all places of a run."""
    trackers = open_trackers(
        config, folder, last_step=last_step, run_name="tracked", run_config={"seed": 0}
    )
    for step, line in list(enumerate(LINES, start=1))[last_step:]:
        for tracker in trackers:
            tracker.log(step, line)
    for tracker in trackers:
        tracker.close()


def test_a_resumed_run_writes_every_step_once(tmp_path):
    write_run(tmp_path, TrackingConfig())
    write_run(tmp_path, TrackingConfig(), last_step=1)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines == [{"step": step, **line} for step, line in enumerate(LINES, start=1)]


@pytest.mark.parametrize(
    ("package", "config"),
    [
        ("torch.utils.tensorboard", {"tensorboard": True}),
        ("wandb", {"wandb_project": "p"}),
        ("trackio", {"trackio_project": "p"}),
    ],
)
def test_a_missing_package_is_answered_with_the_line_that_installs_it(
    package, config, tmp_path, monkeypatch
):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'worldpm\[tracking\]'"):
        open_trackers(
            TrackingConfig(**config), tmp_path, last_step=0, run_name="tracked", run_config={}
        )


def installed(package: str):
    """The optional package, or a skip that names the extra."""
    return pytest.importorskip(package, reason=f"{package} is not here: the extra `tracking`")


@pytest.mark.filterwarnings("default")
def test_tensorboard_reads_the_event_file_back_with_one_point_a_step(tmp_path):
    installed("tensorboard")
    accumulator = importlib.import_module("tensorboard.backend.event_processing.event_accumulator")
    write_run(tmp_path, TrackingConfig(tensorboard=True))
    write_run(tmp_path, TrackingConfig(tensorboard=True), last_step=1)
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert sorted(events.Tags()["scalars"]) == ["accuracy", "loss"]
    found = [(event.step, event.value) for event in events.Scalars("loss")]
    assert found == [(step, pytest.approx(line["loss"])) for step, line in enumerate(LINES, 1)]


def read_wandb_history(path: Path) -> list[dict[str, float]]:
    """The logged lines of a W&B file: a 7-byte header, then records as LevelDB's log has them."""
    records = importlib.import_module("wandb.proto.wandb_internal_pb2")
    content = path.read_bytes()
    assert len(content) < 32_768, "one block only is read here"
    history, position = [], 7
    while position < len(content):
        _, length, _ = struct.unpack_from("<IHB", content, position)
        record = records.Record.FromString(content[position + 7 : position + 7 + length])
        position += 7 + length
        if record.HasField("history"):
            items = record.history.item
            history.append(
                {
                    ".".join(item.nested_key) or item.key: json.loads(item.value_json)
                    for item in items
                }
            )
    return history


@pytest.mark.filterwarnings("default")
def test_wandb_offline_keeps_the_numbers_below_the_run(tmp_path, monkeypatch):
    installed("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    write_run(tmp_path, TrackingConfig(wandb_project="worldpm-test"))
    (file,) = (tmp_path / "wandb").glob("offline-run-*/run-*.wandb")
    history = read_wandb_history(file)
    assert [(line["step"], line["loss"], line["accuracy"]) for line in history] == [
        (step, line["loss"], line["accuracy"]) for step, line in enumerate(LINES, start=1)
    ]


@pytest.mark.filterwarnings("default")
def test_trackio_stores_the_numbers_locally_and_goes_on_with_the_run(tmp_path, monkeypatch):
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    trackio = installed("trackio")
    write_run(tmp_path, TrackingConfig(trackio_project="worldpm-test"))
    runs = list(trackio.Api().runs("worldpm-test"))
    assert [run.name for run in runs] == ["tracked"]
    logs = importlib.import_module("trackio.sqlite_storage").SQLiteStorage.get_logs(
        "worldpm-test", "tracked"
    )
    assert [(line["step"], line["loss"], line["accuracy"]) for line in logs] == [
        (step, line["loss"], line["accuracy"]) for step, line in enumerate(LINES, start=1)
    ]
