"""Steps that stand out are written down, never skipped; only values that are no numbers stop."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.distributed import join, run_ranks, start_ranks
from worldpm.errors import ConfigError
from worldpm.run_record import RunRecord, read_metrics
from worldpm.training.assembly import refuse_dropout
from worldpm.training.checkpointing import list_checkpoints
from worldpm.training.config import MonitorConfig
from worldpm.training.monitor import RobustBand, SpikeDetector, peak_flops
from worldpm.training.stopping import EXIT_DIVERGED, EXIT_HUNG

SCRIPT = Path(__file__).parent / "on_ranks.py"
SHORT = ["batch.pairs_per_step=24", "evaluation.splits=[]", "checkpoint.every_pairs=24"]


def test_the_band_is_median_and_robust_deviation():
    band = RobustBand(window=9)
    for value in (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 900.0):
        band.add(value)
    # Median 5, absolute deviations 4 3 2 1 0 1 2 3 895: their median 2.
    assert band.excess(5 + 10 * 1.4826 * 2) == pytest.approx(10)


def test_a_sudden_fall_of_the_loss_counts_as_much_as_a_rise():
    detector = SpikeDetector(MonitorConfig(spike_threshold=8))
    noise = np.random.default_rng(0).normal(0, 0.01, 30)
    assert not any(detector.observe(0.6 + float(n), 1.0)[0] for n in noise)
    assert detector.observe(0.3, 1.0)[0]


def test_a_norm_that_is_not_known_before_the_update_is_left_out():
    detector = SpikeDetector(MonitorConfig(spike_threshold=8))
    assert not any(detector.observe(0.6, None)[0] for _ in range(30))


@pytest.fixture(scope="module")
def runs(data_set: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, int]]:
    """A run in which nearly every step stands out, and one that diverges, on two ranks."""
    folder = tmp_path_factory.mktemp("incidents")
    wanted = {
        "spikes": ["monitor.spike_threshold=0.01", "monitor.max_snapshots=1"],
        "diverges": ["optimizer.lr=1e30", "optimizer.max_grad_norm=null", "deepspeed.stage=2"],
    }
    overrides = {str(folder / name): [*SHORT, *lines] for name, lines in wanted.items()}
    results = run_ranks(SCRIPT, "train_all", 2, data=str(data_set), runs=overrides)
    assert results[0] == results[1]
    return {name: (folder / name, results[0][str(folder / name)]) for name in wanted}


def test_a_run_goes_on_through_spikes_and_records_them(runs):
    run, code = runs["spikes"]
    assert code == 0
    assert RunRecord.read(run).status == "completed"
    lines = {line["step"]: line for line in read_metrics(run)}
    records = [json.loads(path.read_text()) for path in sorted((run / "spikes").glob("*.json"))]
    assert records
    for record in records:
        line = lines[record["step"]]
        assert record["loss"] == line["loss"]
        assert len(record["pair_ids"]) == line["num_pairs"] - record["num_pairs_before"]
        squares = sum(norm**2 for norm in record["gradient_norms"].values())
        assert squares**0.5 == pytest.approx(line["grad_norm"], rel=1e-5)


def test_the_snapshot_of_a_spike_outlives_the_retention(runs):
    run, _ = runs["spikes"]
    records = [json.loads(path.read_text()) for path in sorted((run / "spikes").glob("*.json"))]
    snapshots = [record["snapshot"] for record in records if record["snapshot"]]
    assert snapshots == [f"checkpoints/step-{records[0]['step'] - 1:08d}"]
    assert (run / snapshots[0] / "manifest.json").exists()
    assert len(list_checkpoints(run / "checkpoints")) == 3


def test_a_loss_that_is_no_number_stops_with_a_checkpoint_before_the_step(runs):
    run, code = runs["diverges"]
    assert code == EXIT_DIVERGED
    record = RunRecord.read(run)
    assert record.status == "failed"
    incident = json.loads((run / "spikes" / f"step-{record.step + 1:08d}.json").read_text())
    assert incident["kind"] == "diverged"
    assert incident["snapshot"] == f"checkpoints/step-{record.step:08d}"
    assert f"--replay {record.step + 1}" in record.message


def test_a_hung_rank_is_ended_with_its_own_code(tmp_path):
    processes = start_ranks(SCRIPT, "hang", 1, tmp_path)
    assert join(processes, 60) == [EXIT_HUNG]


def test_dropout_anywhere_is_refused():
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Dropout(0.1))
    with pytest.raises(ConfigError, match=r"1\.p is 0\.1: dropout must be 0"):
        refuse_dropout(model)
    layer = torch.nn.Linear(2, 2)
    layer.attention_dropout = 0.05
    with pytest.raises(ConfigError, match=r"0\.attention_dropout is 0\.05"):
        refuse_dropout(torch.nn.Sequential(layer))
    refuse_dropout(torch.nn.Sequential(torch.nn.Dropout(0.0)))


def test_peaks_of_known_accelerators():
    assert peak_flops("NVIDIA H100 80GB HBM3") == 989e12
    assert peak_flops("NVIDIA H100 PCIe") == 756e12
    assert peak_flops("NVIDIA A100-SXM4-80GB") == 312e12
    assert peak_flops("") is None
