"""Memory that a forward pass frees is there for the next one, also in another thread."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

COUNT_FAULTS = """
import resource
from concurrent.futures import ThreadPoolExecutor
import torch
from worldpm.scoring.heap import keep_freed_memory

def work():
    held = [torch.ones(500_000) for _ in range(20)]  # 40 MB
    return len(held)

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

assert keep_freed_memory()
torch.set_num_threads(1)
with ThreadPoolExecutor(1) as pool:
    pool.submit(work).result()
    before = faults()
    for _ in range(5):
        pool.submit(work).result()
print(faults() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="an option of glibc")
def test_a_thread_reuses_what_it_freed() -> None:
    # In a process of its own: the setting is the whole process's.
    command = [sys.executable, "-c", COUNT_FAULTS]
    result = subprocess.run(command, check=True, capture_output=True, text=True)
    # Faulting 40 MB in five times would be 50,000 pages.
    assert int(result.stdout) < 1_000
