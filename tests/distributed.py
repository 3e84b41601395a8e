"""Run a function on several ranks: processes forked from a server that has imported DeepSpeed.

Importing torch and DeepSpeed takes seconds a process; a fork of a process that has done it takes
none. Functions are named by their file, for test files are no importable modules.
"""

from __future__ import annotations

import importlib.util
import json
import multiprocessing
import os
import socket
import sys
import tempfile
import traceback
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["tests.distributed_preload"])

TIMEOUT_S = 240.0


def run_ranks(
    script: Path, function: str, world_size: int = 1, timeout_s: float = TIMEOUT_S, **arguments: Any
) -> list[Any]:
    """Call `function(**arguments)` of `script` on every rank; returns what each rank returned.

    Arguments and results are JSON values. A rank that fails fails the test with its traceback.
    """
    with tempfile.TemporaryDirectory() as folder:
        processes = start_ranks(script, function, world_size, Path(folder), **arguments)
        join(processes, timeout_s)
        results = [Path(folder) / f"rank-{rank}.json" for rank in range(world_size)]
        values = [json.loads(path.read_text()) for path in results if path.exists()]
    failures = [value["error"] for value in values if "error" in value]
    codes = [process.exitcode for process in processes]
    assert not failures, failures[0]
    assert codes == [0] * world_size, f"exit codes {codes}"
    return [value["result"] for value in values]


def start_ranks(
    script: Path, function: str, world_size: int, folder: Path, **arguments: Any
) -> list[BaseProcess]:
    """Start the ranks and return at once; results are written to `folder`."""
    port = _free_port()
    processes = []
    for rank in range(world_size):
        environment = {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(world_size),
            "LOCAL_WORLD_SIZE": str(world_size),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "OMP_NUM_THREADS": "1",
        }
        target = (str(script), function, arguments, environment, str(folder / f"rank-{rank}.json"))
        processes.append(_context.Process(target=_call, args=target))
    for process in processes:
        process.start()
    return processes


def join(processes: list[BaseProcess], timeout_s: float = TIMEOUT_S) -> list[int | None]:
    """Wait for all ranks; those that outlive the time are killed. Returns the exit codes."""
    for process in processes:
        process.join(timeout_s)
    for process in processes:
        if process.is_alive():
            process.kill()
            process.join()
    return [process.exitcode for process in processes]


def _call(
    script: str, function: str, arguments: dict[str, Any], environment: dict[str, str], result: str
) -> None:
    os.environ.update(environment)
    spec = importlib.util.spec_from_file_location(Path(script).stem, script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        value = {"result": getattr(module, function)(**arguments)}
    except BaseException as exc:
        Path(result).write_text(json.dumps({"error": traceback.format_exc()}))
        if isinstance(exc, SystemExit):
            raise
        traceback.print_exc()
        sys.exit(1)
    Path(result).write_text(json.dumps(value))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
