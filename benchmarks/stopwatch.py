"""CPU and wall time of a piece of work, their spread over rounds, and the machine they were measured on."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, is_dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import TypeVar

import numpy as np

from benchmarks import ONE_THREAD

Item = TypeVar("Item")
SECONDS_BETWEEN_LINES = 10.0


@dataclass(frozen=True)
class Seconds:
    """CPU time of this process and wall time, in seconds."""

    cpu: float
    wall: float

    def times(self, factor: float) -> Seconds:
        """Both multiplied by `factor`."""
        return Seconds(self.cpu * factor, self.wall * factor)


@dataclass(frozen=True)
class Spread:
    """Median and extremes of one quantity over rounds."""

    median: float
    least: float
    most: float

    def text(self, digits: int = 3) -> str:
        """`median [least, most]` to so many significant digits."""
        return f"{_short(self.median, digits)} [{_short(self.least, digits)}, {_short(self.most, digits)}]"


def spread(values: Iterable[float]) -> Spread:
    """Median and extremes of `values`."""
    values = list(values)
    return Spread(median(values), min(values), max(values))


def measure(work: Callable[[], object]) -> Seconds:
    """What one call of `work` took."""
    cpu, wall = process_time(), perf_counter()
    work()
    return Seconds(process_time() - cpu, perf_counter() - wall)


def announced(items: Iterable[Item], total: int, label: str) -> Iterator[Item]:
    """The items themselves; a line of progress is printed about every ten seconds."""
    start = last = perf_counter()
    for done, item in enumerate(items):
        now = perf_counter()
        if now - last > SECONDS_BETWEEN_LINES:
            last = now
            left = (now - start) / done * (total - done)
            print(f"  {label}: {done:,} of {total:,}, about {left:.0f} s left", flush=True)
        yield item


def rounded(value: object) -> object:
    """`value` for JSON: dataclasses as dictionaries, floats to four significant digits."""
    if is_dataclass(value):
        value = asdict(value)
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [rounded(item) for item in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value


def num_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def free_environment() -> dict[str, str]:
    """The environment without what holds this package to one thread, for a program that is measured as users run it."""
    return {name: value for name, value in os.environ.items() if name not in ONE_THREAD}


def machine_facts(*packages: str) -> dict[str, str | int]:
    """Processor, cores, and versions of Python and of `packages`."""
    return {
        "processor": _processor(),
        "cores": num_cores(),
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
    }


def one_thread_facts(*packages: str) -> dict[str, str | int]:
    """`machine_facts`, and that one thread is in use.

    Raises ValueError when numpy does not keep to one thread, since CPU time would then add up several.
    """
    square = np.random.default_rng(0).normal(size=(600, 600))
    taken = measure(lambda: [square @ square for _ in range(20)])
    if taken.cpu > 1.3 * taken.wall or any(os.environ.get(name) != "1" for name in ONE_THREAD):
        raise ValueError(f"{ONE_THREAD[0]}: numpy uses several threads; run as python -m benchmarks.fit_speed")
    return machine_facts(*packages) | {"threads": 1}


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    fields = dict(line.split(":", 1) for line in reversed(lines) if ":" in line)
    fields = {name.strip(): value.strip() for name, value in fields.items()}
    if "model name" not in fields:
        return platform.processor() or platform.machine()
    return f"{fields['model name']} (family {fields.get('cpu family', '?')}, model {fields.get('model', '?')})"


def _short(value: float, digits: int) -> str:
    return f"{value:,.0f}" if abs(value) >= 10 ** (digits - 1) else f"{value:#.{digits}g}"
