"""Garbage is looked for rarely, or not at all, where a block says so, and as before it after it."""

import gc
import subprocess
import sys

from pipeline.collector import without_collector

RARE = """
import gc
from pipeline.collector import rare_collector

usual = gc.get_threshold()
with rare_collector():
    before = gc.get_stats()[0]["collections"]
    kept = [[] for _ in range(90_000)]
    assert gc.get_stats()[0]["collections"] - before <= 1
assert gc.get_freeze_count() > 90_000, "nothing of it is looked through as the process ends"
assert gc.get_threshold() == usual
"""


def test_a_short_process_looks_rarely_and_not_as_it_ends():
    subprocess.run([sys.executable, "-c", RARE], check=True)


def test_none_within_the_block():
    with without_collector():
        assert not gc.isenabled()
    assert gc.isenabled()
