"""The main job as a user types it: a made-up dump in, a model and its scaling report out."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from worldpm.run_record import RunRecord, read_evals, read_metrics

ROOT = Path(__file__).parent.parent.parent
WORLDPM = (sys.executable, "-m", "worldpm.cli.main")
SIZES = ("tiny-1", "tiny-2")


def worldpm(*arguments: str | Path, expect: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [*WORLDPM, *map(str, arguments)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == expect, done.stdout + done.stderr
    return done


def kill_when(ready: Path, pattern: str, *arguments: str | Path) -> None:
    """Start a command and kill it with its children as soon as `pattern` matches in `ready`."""
    process = subprocess.Popen(
        [*WORLDPM, *map(str, arguments)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    while process.poll() is None and not any(ready.glob(pattern)):
        time.sleep(0.02)
    assert process.poll() is None, "the command ended before it could be killed"
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@dataclass(frozen=True)
class Job:
    """The folders of one whole job."""

    dump: Path
    pairs: Path
    test_sets: Path
    runs: Path
    results: Path
    report: Path


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    """Run every step once, on 4,000 made-up posts and two sizes."""
    root = tmp_path_factory.mktemp("job")
    names = ("dump", "pairs", "test_sets", "runs", "results", "report")
    job = Job(*(root / name for name in names))
    worldpm(
        *("data", "generate", "configs/data/generate.yaml", f"output_dir={job.dump}"),
        *("num_posts=4000", "num_test_items=60"),
    )
    worldpm(
        *("data", "build", "configs/data/demo.yaml", f"source.path={job.dump}"),
        *(f"output_dir={job.pairs}", "split.validation=0.1", "split.test=0.1"),
    )
    worldpm(
        *("eval", "prepare", "configs/eval/demo.yaml"),
        *(f"data_dir={job.dump}", f"output_dir={job.test_sets}"),
    )
    sizes = {
        size: {"overrides": {"model": {"architecture": f"configs/model/{size}.yaml"}}}
        for size in SIZES
    }
    sweep = root / "sweep.yaml"
    sweep.write_text(
        (ROOT / "configs/sweep/demo.yaml").read_text().partition("sizes:")[0]
        + f"sizes: {json.dumps(sizes)}\nlauncher: {{kind: local, max_parallel: 2}}\n"
    )
    worldpm(
        *("sweep", "launch", sweep, f"data.path={job.pairs}", f"output_dir={job.runs}"),
        *(f"overrides.test_sets=@{job.test_sets}/test_sets.yaml", "overrides.batch.max_pairs=256"),
    )
    worldpm(
        *("eval", "run", "configs/eval/demo.yaml", f"model={job.runs}/tiny-1-seed0/model"),
        *(f"data_dir={job.dump}", f"output_dir={job.results}"),
    )
    worldpm(
        *("scaling", "report", "configs/scaling/report.yaml", f"runs={job.runs}"),
        *(f"output_dir={job.report}", "bootstrap.num_resamples=100"),
    )
    return job


def test_the_counts_of_the_build_add_up_to_the_posts_of_the_dump(job: Job) -> None:
    manifest = json.loads((job.pairs / "manifest.json").read_text())
    counts = manifest["counts"]
    for name, stage in counts.items():
        if isinstance(stage, dict) and "rows_in" in stage:
            assert stage["rows_in"] == stage["rows_out"] + sum(stage["dropped"].values()), name
    assert counts["ingest"]["rows_in"] == 4000


def test_every_pair_prefers_the_higher_score(job: Job) -> None:
    groups = [
        row
        for part in job.pairs.glob("groups/*.parquet")
        for row in pq.read_table(part).to_pylist()
    ]
    margins = [
        (
            pair["margin"],
            row["responses"][pair["chosen"]]["score"] - row["responses"][pair["rejected"]]["score"],
        )
        for row in groups
        for pair in row["pairs"]
    ]
    assert margins
    assert all(margin == difference > 0 for margin, difference in margins)


def test_both_runs_are_recorded_with_their_evaluations(job: Job) -> None:
    for size in SIZES:
        run = job.runs / f"{size}-seed0"
        record = RunRecord.read(run)
        assert record.status == "completed"
        assert record.num_pairs == 256
        points = [evaluation.num_pairs for evaluation in read_evals(run)]
        assert points == [0, 64, 128, 256]
        assert (run / "model" / "model.safetensors").is_file()


def test_the_results_have_the_three_kinds_with_their_errors(job: Job) -> None:
    results = json.loads((job.results / "results.json").read_text())["benchmarks"]
    assert set(results) == {
        "generated-adversarial",
        "generated-objective",
        "generated-subjective",
    }
    for protocols in results.values():
        worldpm_rule = protocols["worldpm"]
        assert worldpm_rule["num_items"] == 60
        assert 0 < worldpm_rule["standard_error"] < 0.1
        low, high = worldpm_rule["interval"]
        assert low <= worldpm_rule["accuracy"] <= high
    lines = (job.results / "items.jsonl").read_text().splitlines()
    assert len(lines) == 180


def test_the_report_stands_alone(job: Job) -> None:
    page = (job.report / "report.html").read_text()
    assert 'src="http' not in page
    assert "generated-objective" in page
    fits = json.loads((job.report / "fits.json").read_text())
    assert fits
    assert list((job.report / "figures").glob("*.svg"))
    assert list((job.report / "figures").glob("*.png"))


def test_a_second_build_does_nothing_and_says_so(job: Job) -> None:
    before = {path: path.stat().st_mtime_ns for path in job.pairs.rglob("*") if path.is_file()}
    done = worldpm(
        *("data", "build", "configs/data/demo.yaml", f"source.path={job.dump}"),
        *(f"output_dir={job.pairs}", "split.validation=0.1", "split.test=0.1"),
    )
    assert "nothing to do" in (done.stdout + done.stderr).lower()
    assert before == {
        path: path.stat().st_mtime_ns for path in job.pairs.rglob("*") if path.is_file()
    }


def test_a_killed_build_goes_on_to_the_same_bytes(job: Job, tmp_path: Path) -> None:
    output = tmp_path / "pairs"
    build = (
        "data",
        "build",
        "configs/data/demo.yaml",
        f"source.path={job.dump}",
        f"output_dir={output}",
        "split.validation=0.1",
        "split.test=0.1",
    )
    kill_when(output, "**/arrange", *build)
    worldpm(*build)
    expected = {path.name: path.read_bytes() for path in job.pairs.glob("groups/*.parquet")}
    assert {path.name: path.read_bytes() for path in output.glob("groups/*.parquet")} == expected
    for split in ("train", "validation", "test"):
        for path in (job.pairs / "shards" / split).glob("*.arrow"):
            assert (output / "shards" / split / path.name).read_bytes() == path.read_bytes()


def test_a_killed_run_goes_on_to_the_same_losses(job: Job, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train = (
        "train",
        "configs/train/demo.yaml",
        "model.architecture=configs/model/tiny-1.yaml",
        f"data.path={job.pairs}",
        f"output_dir={run}",
        "batch.max_pairs=256",
        "checkpoint.every_pairs=64",
        "seed=0",
    )
    kill_when(run, "checkpoints/step-00000002", *train)
    worldpm(*train)
    whole = job.runs / "tiny-1-seed0"
    assert [line["loss"] for line in read_metrics(run)] == [
        line["loss"] for line in read_metrics(whole)
    ]
    assert RunRecord.read(run).pair_chain == RunRecord.read(whole).pair_chain


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("data", "build", "configs/data/base.yaml", "source.path=nowhere"), "nowhere"),
        (("data", "build", "configs/data/base.yaml", "sourse.path=x"), "did you mean source?"),
        (("train", "configs/train/tiny.yaml", "data.path=nowhere"), "nowhere"),
        (("train", "configs/train/tiny.yaml", "batch.pairs_per_step=many"), "batch.pairs_per_step"),
        (("sweep", "launch", "configs/sweep/demo.yaml", "data.path=nowhere"), "nowhere"),
        (("eval", "run", "configs/eval/quick.yaml", "model=nowhere", "data_dir=x"), "nowhere"),
        (("scaling", "report", "configs/scaling/report.yaml", "runs=nowhere"), "nowhere"),
    ],
)
def test_a_users_mistake_is_one_message(
    arguments: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    done = worldpm(*arguments, f"output_dir={tmp_path / 'out'}", expect=2)
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()
