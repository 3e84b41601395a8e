"""Prove the adapters with the real packages, each in a pinned environment of its own.

A tiny random checkpoint is served; `proofs/prove_NAME.py` runs in the environment NAME with
WORLDPM_REWARD (the server's address) and WORLDPM_CHECKPOINT set, and prints what it proved. An
environment is built once, below WORLDPM_INTEGRATIONS or build/integrations, and again when its list
of packages changes.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from worldpm.artifacts import file_sha256

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
BUILD = Path(os.environ.get("WORLDPM_INTEGRATIONS", ROOT / "build" / "integrations"))
PROOFS = ("trl", "openrlhf", "verl", "rm_gallery", "openjudge", "schemathesis")
PROOF_TIMEOUT_S = 600
START_TIMEOUT_S = 120


def main(names: list[str]) -> int:
    """Run the named proofs, or all; returns the exit code."""
    unknown = set(names) - set(PROOFS)
    if unknown:
        print(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(PROOFS)}")
        return 2
    failed: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder) / "model"
        subprocess.run([sys.executable, HERE / "checkpoint.py", checkpoint], check=True)
        with served(checkpoint, Path(folder) / "server.log") as url:
            for name in names or PROOFS:
                started_s = time.monotonic()
                python = environment(name)
                built_s = time.monotonic()
                code = prove(name, python, url, checkpoint)
                print(
                    f"== {name}: {'failed' if code else 'proved'}; environment "
                    f"{built_s - started_s:.0f} s, proof {time.monotonic() - built_s:.0f} s",
                    flush=True,
                )
                failed += [name] if code else []
    return 1 if failed else 0


@contextmanager
def served(checkpoint: Path, log: Path) -> Iterator[str]:
    """A server of the checkpoint on a free port of loopback."""
    command = [Path(sys.executable).with_name("worldpm"), "serve", checkpoint, "--port", "0"]
    with log.open("w") as file:
        process = subprocess.Popen(command, stderr=file)
    try:
        yield wait_ready(process, log)
    finally:
        process.terminate()
        process.wait(timeout=60)


def wait_ready(process: subprocess.Popen[bytes], log: Path) -> str:
    """The server's address, once its health is good."""
    limit_s = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < limit_s and process.poll() is None:
        urls = [word for word in log.read_text().split() if word.startswith("http://")]
        if urls and "ready" in log.read_text():
            assert httpx.get(f"{urls[0]}/health").status_code == 200
            return urls[0]
        time.sleep(0.1)
    raise SystemExit(f"the server did not start:\n{log.read_text()}")


def environment(name: str) -> Path:
    """The Python of an environment, built if its requirements changed."""
    folder = BUILD / name
    requirements = HERE / "environments" / f"{name}.txt"
    digest = file_sha256(requirements)
    marker = folder / "complete"
    python = folder / "bin" / "python"
    if marker.is_file() and marker.read_text() == digest:
        return python
    subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
    # Every package is named with its version, so nothing is resolved: several of these packages
    # ask for versions that exclude each other, or for a torch with CUDA. Most of their modules are
    # never imported: compiling them all takes minutes.
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    pip += ["--no-compile", "--no-deps"]
    subprocess.run([*pip, "-r", requirements], check=True)
    subprocess.run([*pip, "-e", ROOT], check=True)
    marker.write_text(digest)
    return python


def prove(name: str, python: Path, url: str, checkpoint: Path) -> int:
    """Run one proof; returns its exit code."""
    settings = {
        "WORLDPM_REWARD": url,
        "WORLDPM_CHECKPOINT": str(checkpoint),
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
    }
    proof = HERE / "proofs" / f"prove_{name}.py"
    # In a folder of its own: trainers write beside themselves.
    with tempfile.TemporaryDirectory() as folder:
        try:
            return subprocess.run(
                [python, proof],
                env=os.environ | settings,
                cwd=folder,
                timeout=PROOF_TIMEOUT_S,
                check=False,
            ).returncode
        except subprocess.TimeoutExpired:
            print(f"{name}: longer than {PROOF_TIMEOUT_S} s")
            return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
