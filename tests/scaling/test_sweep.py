"""Sweeps: the grid, its costs, local launching with failures and re-launch, Slurm and Ray."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from scaling import grid
from scaling.cost import data_scale, run_cost, state_bytes
from scaling.grid import make_grid
from scaling.launchers import log_path
from scaling.ray_jobs import RayLauncher
from scaling.slurm import array_script
from scaling.sweep import launch_sweep, sweep_status
from scaling.sweep_config import RayConfig, SlurmConfig, SweepConfig
from worldpm.artifacts import Manifest
from worldpm.cli.main import cli
from worldpm.config import load_config
from worldpm.errors import ConfigError, MissingDependencyError
from worldpm.training.config import TrainConfig

# Stands in for the trainer: writes a run record, and fails while a file "broken" stands beside.
FAKE_TRAINER = """
import sys
from pathlib import Path
from worldpm.run_record import RunRecord
values = dict(argument.split("=", 1) for argument in sys.argv[3:])
run = Path(values["output_dir"])
run.mkdir(parents=True, exist_ok=True)
print("training", values["name"])
status, message = "completed", ""
if (run.parent / "broken").exists() and "size-b" in run.name:
    status, message = "failed", "no space"
    print("Traceback: it broke here")
(run / "starts").open("a").write("x")
RunRecord(values["name"], status, "m", 10, 9, int(values["seed"]), 4, 4, 256, 999, 1.0, "c", "f",
          1, 2.0, {}, {}, message).write(run)
sys.exit(1 if status == "failed" else 0)
"""


@pytest.fixture
def sweep(tmp_path: Path, project_root: Path, monkeypatch: pytest.MonkeyPatch) -> SweepConfig:
    monkeypatch.chdir(project_root)
    monkeypatch.setattr(grid, "RUN_COMMAND_LINE", FAKE_TRAINER)
    model = "configs/model/tiny-1.yaml"
    built = tmp_path / "data" / "shards" / "train"
    built.mkdir(parents=True)
    counts = {"num_pairs": 500, "num_tokens": 50_000}
    Manifest("shards", "f", config={}, inputs={}, counts=counts).write(built)
    return SweepConfig.model_validate(
        {
            "name": "test",
            "output_dir": tmp_path / "runs",
            "train": Path("configs/train/tiny.yaml"),
            "data": {"path": str(tmp_path / "data")},
            "sizes": {
                "size-a": {"overrides": {"model": {"architecture": model}}, "seeds": (0, 1)},
                "size-b": {"overrides": {"model": {"architecture": model}}},
            },
            "launcher": {"kind": "local", "max_parallel": 2, "memory_gb": 4.0},
        }
    )


def _with(sweep: SweepConfig, **changes: object) -> SweepConfig:
    return SweepConfig.model_validate({**sweep.model_dump(), **changes})


def test_the_grid_is_sizes_times_seeds_times_scales_times_variants(sweep: SweepConfig) -> None:
    wider = _with(
        sweep,
        max_pairs=(1024, None),
        variants={"low": {"optimizer": {"lr": 1e-3}}, "high": {"optimizer": {"lr": 4e-3}}},
        decay={"pairs": (512,), "fraction": 0.3},
    )
    specs = {spec.name: spec for spec in make_grid(wider)}
    assert len(specs) == 3 * 2 * (2 + 1)
    branch = specs["size-a-seed1-high-decay512"]
    assert branch.config.schedule.kind == "wsd"
    assert branch.config.schedule.decay_fraction == 0.3
    assert branch.config.batch.max_pairs == 512
    assert branch.config.optimizer.lr == 4e-3
    assert branch.config.seed == 1
    assert specs["size-b-seed0-low-1024pairs"].config.batch.max_pairs == 1024


def test_a_runs_command_resolves_to_its_configuration(sweep: SweepConfig) -> None:
    spec = make_grid(_with(sweep, overrides={"optimizer": {"betas": [0.9, 0.99]}}))[0]
    program, verb, config, *overrides = shlex.split(spec.command)
    assert (program, verb) == ("worldpm", "train")
    assert load_config(TrainConfig, Path(config), overrides) == spec.config
    assert spec.config.optimizer.betas == (0.9, 0.99)


def test_a_name_that_is_no_directory_and_a_misspelt_key_are_refused(sweep: SweepConfig) -> None:
    with pytest.raises(ConfigError, match="becomes the name of a directory"):
        make_grid(_with(sweep, name="a/b"))
    with pytest.raises(ConfigError, match="no data set stands there"):
        launch_sweep(_with(sweep, data={"path": "nowhere"}))
    with pytest.raises(ConfigError, match=r"did you mean optimizer\.lr"):
        make_grid(_with(sweep, overrides={"optimizer": {"lrr": 1e-3}}))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ("launcher.max_paralle=2",),
            r"unknown key launcher\.max_paralle; did you mean launcher\.max_parallel\?",
        ),
        (
            ("launcher.kind=ray", "launcher.adress=x"),
            r"(?s)the key launcher\.address is missing.*did you mean launcher\.address\?",
        ),
        (("launcher.kind=slrm",), "launcher: there is no kind 'slrm'; known: 'local', 'slurm'"),
        (("sizes.a.seed=[1]",), r"unknown key sizes\.a\.seed; did you mean sizes\.a\.seeds\?"),
    ],
)
def test_a_misspelt_key_of_a_sweep_is_named_as_it_stands_in_the_file(
    overrides: tuple[str, ...], message: str
) -> None:
    minimal = ("name=x", "output_dir=x", "train=x", "data.path=x", "sizes.a.overrides={}")
    with pytest.raises(ConfigError, match=message):
        load_config(SweepConfig, None, [*minimal, *overrides])


def test_a_failed_run_is_shown_with_its_log_and_a_second_launch_runs_only_it(
    sweep: SweepConfig,
) -> None:
    sweep.output_dir.mkdir()
    (sweep.output_dir / "broken").touch()
    first = {state.spec.name: state for state in launch_sweep(sweep)}
    assert first["size-a-seed0"].state == first["size-a-seed1"].state == "completed"
    assert first["size-b-seed0"].state == "failed"
    assert "no space" in first["size-b-seed0"].detail
    assert "Traceback: it broke here" in first["size-b-seed0"].detail

    (sweep.output_dir / "broken").unlink()
    second = launch_sweep(sweep)
    assert {state.state for state in second} == {"completed"}
    starts = [(state.spec.directory / "starts").read_text() for state in second]
    assert starts == ["x", "x", "xx"]


def test_retries_start_a_failed_run_again(sweep: SweepConfig) -> None:
    sweep.output_dir.mkdir()
    (sweep.output_dir / "broken").touch()
    states = launch_sweep(_with(sweep, max_retries=2))
    assert (states[2].spec.directory / "starts").read_text() == "xxx"


def test_status_reads_records_only(sweep: SweepConfig) -> None:
    assert {state.state for state in sweep_status(sweep)} == {"missing"}
    spec = make_grid(sweep)[0]
    log_path(spec).parent.mkdir(parents=True)
    log_path(spec).write_text("$ worldpm train\nerror: no data\n")
    state = sweep_status(sweep)[0]
    assert (state.state, state.detail.splitlines()[-1]) == ("failed", "error: no data")
    spec.directory.mkdir()
    (spec.directory / "run.json").write_text("[]")
    assert sweep_status(sweep)[0].state == "unreadable"


def test_memory_follows_the_published_table_of_zero(sweep: SweepConfig) -> None:
    # Rajbhandari et al. 2020, figure 1: 7.5 B weights on 64 devices, bf16: 120, 31.4, 16.6, 1.9 GB.
    train = make_grid(sweep)[0].config.model_dump()
    train["model"]["precision"] = "bfloat16"
    train["cluster"]["gpus"] = 64
    for stage, expected_gb in ((1, 31.4), (2, 16.6), (3, 1.9)):
        train["deepspeed"]["stage"] = stage
        found = state_bytes(7_500_000_000, TrainConfig.model_validate(train)) / 1e9
        assert found == pytest.approx(expected_gb, abs=0.05)


def test_compute_is_six_flops_a_weight_and_token_and_more_for_attention(sweep: SweepConfig) -> None:
    spec = make_grid(sweep)[0]
    cost = run_cost(spec, data_scale(sweep, spec.config), sweep)
    assert (cost.num_pairs, cost.num_tokens) == (500, 50_000)
    assert cost.flops > 6 * (cost.num_params_non_embedding - 64) * cost.num_tokens
    assert cost.num_params - cost.num_params_non_embedding == sweep.plan.vocab_size * 32


@pytest.mark.parametrize("name", ["paper", "qwen2.5", "skywork", "tiny", "demo"])
def test_every_ladder_can_be_planned_without_its_models(
    name: str, project_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project_root)
    result = CliRunner().invoke(cli, ["sweep", "plan", f"configs/sweep/{name}.yaml"])
    assert result.exit_code == 0, result.output
    config = load_config(SweepConfig, Path(f"configs/sweep/{name}.yaml"))
    assert len(config.sizes) == {"paper": 3, "qwen2.5": 7, "skywork": 8, "tiny": 6, "demo": 5}[name]
    assert result.output.count("worldpm train") == len(make_grid(config))


def test_the_slurm_script_is_one_requeued_array_of_plain_commands(sweep: SweepConfig) -> None:
    specs = make_grid(sweep)
    slurm = SlurmConfig(kind="slurm", partition="gpu", nodes=2, max_parallel=2)
    script = array_script(slurm, specs, name="test")
    assert "#SBATCH --array=0-2%2" in script
    assert "#SBATCH --requeue" in script
    assert "scontrol requeue" in script
    assert script.count("--no-python worldpm train") == 3
    assert subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0


@pytest.mark.parametrize(("code", "requeued"), [(0, False), (75, True), (1, False)])
def test_a_slurm_task_asks_for_the_queue_only_when_it_was_interrupted(
    sweep: SweepConfig, tmp_path: Path, code: int, requeued: bool
) -> None:
    bin_dir = tmp_path / "bin"
    bin_dir.mkdir()
    _program(bin_dir / "srun", f'echo "$@" >> {tmp_path}/ran; exit {code}')
    _program(
        bin_dir / "scontrol", f'[ "$1" = show ] && echo node1; echo "$@" >> {tmp_path}/control'
    )
    sweep.output_dir.mkdir()
    slurm = SlurmConfig(kind="slurm", gpus_per_node=0)
    script = array_script(slurm, make_grid(sweep), name="test")
    environment = {
        "PATH": f"{bin_dir}:/usr/bin:/bin", "SLURM_ARRAY_TASK_ID": "1", "SLURM_JOB_NODELIST": "n",
        "SLURM_ARRAY_JOB_ID": "7", "SLURM_JOB_ID": "8",
    }  # fmt: skip
    done = subprocess.run(["bash"], input=script, text=True, env=environment, check=False)
    assert done.returncode == code
    assert "name=size-a-seed1" in (tmp_path / "ran").read_text()
    assert ("requeue 7_1" in (tmp_path / "control").read_text()) is requeued


def _program(path: Path, body: str) -> None:
    path.write_text(f"#!/bin/bash\n{body}\n")
    path.chmod(0o755)


@pytest.mark.skipif(shutil.which("sbatch") is not None, reason="there is a Slurm here")
def test_without_sbatch_the_script_is_written_and_named(sweep: SweepConfig) -> None:
    with pytest.raises(ConfigError, match=r"sweep\.sbatch"):
        launch_sweep(_with(sweep, launcher={"kind": "slurm"}))
    assert (sweep.output_dir / "sweep.sbatch").exists()


class _FakeRay:
    """Keeps jobs as the Ray client does: names out, states and logs by job."""

    def __init__(self) -> None:
        self.commands: dict[str, str] = {}

    def submit_job(self, *, entrypoint: str, **_: object) -> str:
        job = f"job-{len(self.commands)}"
        self.commands[job] = entrypoint
        return job

    def get_job_status(self, job: str) -> str:
        return "FAILED" if "size-b" in self.commands[job] else "SUCCEEDED"

    def get_job_logs(self, job: str) -> str:
        return f"log of {job}\n"


def test_ray_jobs_are_plain_commands_with_their_logs_kept(sweep: SweepConfig) -> None:
    client = _FakeRay()
    specs = make_grid(sweep)
    codes = RayLauncher(RayConfig(kind="ray", address="auto", poll_s=0.01), client).launch(specs)
    assert codes == {"size-a-seed0": 0, "size-a-seed1": 0, "size-b-seed0": 1}
    assert list(client.commands.values()) == [spec.command for spec in specs]
    assert log_path(specs[2]).read_text() == "log of job-2\n"


def test_ray_without_the_package_names_its_extra() -> None:
    pytest.importorskip("click")
    try:
        import ray  # noqa: F401
    except ImportError:
        with pytest.raises(MissingDependencyError, match=r"worldpm\[ray\]"):
            RayLauncher(RayConfig(kind="ray", address="http://127.0.0.1:1"))
