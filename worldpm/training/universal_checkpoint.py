"""Checkpoints that load on any number of ranks, made by DeepSpeed's own converter."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from worldpm.errors import CheckpointError


def convert_to_universal(source: Path, target: Path, *, stage: int) -> None:
    """Turn a checkpoint folder into one that loads on any number of ranks.

    Raises:
        CheckpointError: DeepSpeed's converter failed; the end of its output is quoted.
    """
    command = [sys.executable, "-m", "deepspeed.checkpoint.ds_to_universal"]
    command += ["--input_folder", str(source), "--output_folder", str(target)]
    if stage in (1, 2):
        # Stages 1 and 2 save no universal_checkpoint_info (DeepSpeed issue 5430).
        command.append("--inject_missing_state")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        tail = "\n".join(done.stderr.splitlines()[-5:])
        raise CheckpointError(f"{source} could not be converted for another rank count:\n{tail}")
