"""Two processes share the suite: each file goes to one of them whole, those that take minutes first."""

from __future__ import annotations

import pytest

FIRST = (
    "tests/test_pipeline.py",
    "tests/faults/test_kills.py",
    "tests/faults",
    "tests/publishing",
    "tests/experiments/laws",
    "tests/reporting",
)
"""Where the long files are, the longest first."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sorts the files by FIRST."""
    items.sort(key=lambda item: next((rank for rank, start in enumerate(FIRST) if item.nodeid.startswith(start)), 99))
