"""Two processes share the suite: each file goes to one of them whole, those that take minutes first."""

from __future__ import annotations

import pytest

FIRST = (
    "tests/faults/test_kills.py",
    "tests/test_pipeline.py",
    "tests/faults",
    "tests/experiments/laws",
    "tests/reporting",
)
"""Where the long files are, the longest first."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sorts the files by FIRST and groups tests by file."""
    places = [item.nodeid.partition("::")[0] for item in items]
    ranks = [
        next((rank for rank, start in enumerate(FIRST) if place.startswith(start)), len(FIRST)) for place in places
    ]
    for item, place in zip(items, places, strict=True):
        item.add_marker(pytest.mark.xdist_group(place))
    items[:] = [item for _, item in sorted(zip(ranks, items, strict=True), key=lambda pair: pair[0])]
