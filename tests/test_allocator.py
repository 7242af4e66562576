"""Blocks that a process frees stay with it: the kernel hands out hardly a page when the same arrays come again."""

import subprocess
import sys

import pytest

PAGES = """
import resource
import numpy as np
from pipeline.allocator import keep_freed_blocks

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    kept = [np.ones(40_000) for _ in range(100)]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

if {keep}:
    keep_freed_blocks()
faults()
print(faults())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator alone is told")
@pytest.mark.parametrize("keep", [True, False])
def test_freed_blocks_are_kept(keep):
    pages = int(subprocess.check_output([sys.executable, "-c", PAGES.format(keep=keep)], text=True))
    whole = 100 * 40_000 * 8 // 4096
    assert pages < whole / 20 if keep else pages > whole / 2
