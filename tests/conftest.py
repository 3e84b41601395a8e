"""What all tests share: single-threaded numerics, the real data next to the project, profiles."""

from __future__ import annotations

import os
from pathlib import Path

# Before torch is imported: two OpenMP threads a process spin against each other on small machines.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("MPLBACKEND", "Agg")

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).parent.parent
SHARED_DATA = Path(os.environ.get("WORLDPM_SHARED_DATA", ROOT.parent / "shared" / "data"))

settings.register_profile(
    "default",
    deadline=None,
    derandomize=True,
    max_examples=50,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("default")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests of the real data where it is missing, and say so."""
    if SHARED_DATA.is_dir():
        return
    skip = pytest.mark.skip(reason=f"the real data is not at {SHARED_DATA}")
    for item in items:
        if item.get_closest_marker("shared_data"):
            item.add_marker(skip)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data; a test that uses it carries the mark `shared_data`."""
    return SHARED_DATA


@pytest.fixture(scope="session")
def project_root() -> Path:
    """The root of the project."""
    return ROOT
