"""Sweeps on Slurm: one array job, a task a run, put back into the queue when preempted."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from scaling.grid import RunSpec
from scaling.launchers import log_path
from scaling.sweep_config import SlurmConfig
from worldpm.artifacts import atomic_file
from worldpm.errors import ConfigError
from worldpm.log import logger

SCRIPT_NAME = "sweep.sbatch"
# The trainer's exit code after a signal and a saved checkpoint.
EXIT_INTERRUPTED = 75


class SlurmLauncher:
    """Writes the script and submits it; what came of the runs is read from their records."""

    def __init__(self, config: SlurmConfig, *, name: str, output_dir: Path) -> None:
        self._config = config
        self._name = name
        self._script = output_dir / SCRIPT_NAME

    def launch(self, specs: Sequence[RunSpec]) -> dict[str, int]:
        """Submit the runs; nothing is awaited.

        Raises:
            ConfigError: there is no sbatch, or it refuses the script.
        """
        with atomic_file(self._script) as file:
            file.write(array_script(self._config, specs, name=self._name))
        if shutil.which("sbatch") is None:
            raise ConfigError(
                f"launcher.kind is slurm, but there is no sbatch on this machine: run "
                f"`sbatch {self._script}` on the cluster's login node"
            )
        done = subprocess.run(
            ["sbatch", "--parsable", str(self._script)], capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise ConfigError(f"sbatch refused {self._script}: {done.stderr.strip()}")
        logger.info("submitted job %s with %d tasks", done.stdout.strip(), len(specs))
        return {}


def array_script(config: SlurmConfig, specs: Sequence[RunSpec], *, name: str) -> str:
    """The batch script: its task number chooses the command.

    Slurm sends SIGTERM `grace_s` before it ends a task; the trainer then saves and exits with 75,
    and the task asks to be queued again. The run goes on from its checkpoint.
    """
    header = [
        f"--job-name={name}",
        f"--array=0-{len(specs) - 1}%{config.max_parallel}",
        f"--nodes={config.nodes}",
        "--ntasks-per-node=1",
        f"--cpus-per-task={config.cpus_per_task}",
        f"--time={config.time}",
        f"--signal=B:TERM@{config.grace_s}",
        "--requeue",
        "--open-mode=append",
        f"--output={log_path(specs[0]).parent.resolve()}/{name}-%A_%a.slurm.log",
    ]
    if config.gpus_per_node:
        header.append(f"--gpus-per-node={config.gpus_per_node}")
    if config.memory_gb is not None:
        header.append(f"--mem={config.memory_gb:g}G")
    header += [f"--partition={config.partition}"] if config.partition else []
    header += [f"--account={config.account}"] if config.account else []
    header += list(config.extra)
    commands = "\n".join(f"  {shlex.quote(_task(config, spec))}" for spec in specs)
    return "\n".join(
        [
            "#!/bin/bash",
            *(f"#SBATCH {option}" for option in header),
            "set -u",
            *config.setup,
            'export MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)',
            "commands=(",
            commands,
            ")",
            'bash -c "${commands[$SLURM_ARRAY_TASK_ID]}" &',
            "child=$!",
            # exec in the task makes the signal reach srun itself, which passes it on.
            "trap 'kill -TERM \"$child\"' TERM",
            'wait "$child"; code=$?',
            '[ "$code" -gt 128 ] && { wait "$child"; code=$?; }',
            f'if [ "$code" -eq {EXIT_INTERRUPTED} ]; then',
            '  scontrol requeue "${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}"',
            "fi",
            'exit "$code"',
            "",
        ]
    )


def _task(config: SlurmConfig, spec: RunSpec) -> str:
    log = shlex.quote(str(log_path(spec).resolve()))
    if config.nodes * max(config.gpus_per_node, 1) == 1:
        return f"exec srun {spec.command} >> {log} 2>&1"
    launcher = (
        f"torchrun --nnodes={config.nodes} --nproc_per_node={max(config.gpus_per_node, 1)} "
        '--rdzv_backend=c10d --rdzv_id="$SLURM_JOB_ID" --rdzv_endpoint="$MASTER_ADDR:29500"'
    )
    return f"exec srun {launcher} --no-python {spec.command} >> {log} 2>&1"
