"""Memory that is given back to the system."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HOLES = """
import numpy as np
from unknot.core.memory import give_back

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096 / 2**20

blocks = [np.ones(100_000, np.uint8) for _ in range(2_000)]
behind = blocks.pop()
del blocks
before = resident()
give_back()
print(before - resident())
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="Linux tells what is resident")
def test_memory_that_was_freed_goes_back_to_the_system() -> None:
    run = subprocess.run([sys.executable, "-c", HOLES], capture_output=True, text=True, check=True)
    assert float(run.stdout) > 100  # of 190 MB
