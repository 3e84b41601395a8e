"""What the scaling tests share: made-up runs, and a page opened in a browser where there is one."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest


def _load(name: str) -> ModuleType:
    # Test folders are no packages: a helper module is loaded from its file.
    path = Path(__file__).with_name(f"{name}.py")
    spec = importlib.util.spec_from_file_location(f"scaling_tests_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def write_run() -> Callable[..., Path]:
    """Writes one run directory with planted laws."""
    return _load("made_up_runs").write_run


@pytest.fixture(scope="session")
def ladder(write_run: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six sizes, the smallest with two seeds, and a run that failed."""
    root = tmp_path_factory.mktemp("ladder")
    for size in range(6):
        write_run(root / f"size-{size}-seed0", size=size)
    write_run(root / "size-0-seed1", size=0, seed=1)
    write_run(root / "size-9-seed0", size=9, num_points=1, status="failed", message="out of memory")
    return root
