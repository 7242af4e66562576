"""The bill of a plan, before anything is spent: what is new, what is reused and why, FLOPs and minutes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from pipeline.planning.run_spec import SETTLED, RunSpec

MOST_LINES = 24
REASONS = {
    None: "there is no record of it",
    "damaged": "its record is damaged",
    "partial": "it was interrupted and goes on",
    "finished": "it is finished",
    "diverged": "it diverged, which is a result",
}


@dataclass(frozen=True)
class Line:
    """One run on the bill. `seconds` is its expected time on one worker, 0 for a reused run."""

    spec: RunSpec
    reused: bool
    why: str
    seconds: float


@dataclass(frozen=True)
class Bill:
    """The runs of a plan to train or to reuse. `minutes` is expected wall time: the longer of the shared work and the
    longest chain. `left_out` counts the other runs of the plan by what keeps them out."""

    lines: list[Line]
    workers: int
    minutes: float
    basis: str
    left_out: dict[str, int] = field(default_factory=dict)

    @property
    def new(self) -> list[Line]:
        """The runs that must be trained."""
        return [line for line in self.lines if not line.reused]

    @property
    def seconds(self) -> dict[str, float]:
        """Expected seconds of every run by run_id."""
        return {line.spec.run_id: line.seconds for line in self.lines}

    @property
    def summary(self) -> str:
        """How many runs are new, how many reused and how many left out, in one line."""
        planned = len(self.lines) + sum(self.left_out.values())
        counts = {"new": len(self.new), "reused": len(self.lines) - len(self.new)} | self.left_out
        return f"{planned} runs planned: " + ", ".join(f"{number} {what}" for what, number in counts.items())

    def text(self) -> str:
        """The bill as lines of text: a summary, the new runs and their cost, the most expensive first, and one line for
        all new runs of an experiment that does not count FLOPs."""
        new = self.new
        counted = [line for line in new if line.spec.flops]
        flops, spared = sum(x.spec.flops for x in new), sum(x.spec.flops for x in self.lines if x.reused)
        lines = [
            self.summary,
            f"to spend: {flops:.3g} FLOPs, about {self.minutes:.1f} minutes on {self.workers} workers ({self.basis})",
            f"reused:   {spared:.3g} FLOPs",
        ]
        lines += [
            f"  new  {x.spec.run_id}  {x.spec.flops:9.3g} FLOPs  {x.seconds:6.1f} s  {x.spec.label}: {x.why}"
            for x in sorted(counted, key=lambda x: -x.spec.flops)[:MOST_LINES]
        ]
        if len(counted) > MOST_LINES:
            lines.append(f"  and {len(counted) - MOST_LINES} more; stage plan writes every run to plan/runs.parquet")
        for law in dict.fromkeys(line.spec.experiment for line in new if not line.spec.flops):
            seconds = [line.seconds for line in new if line.spec.experiment == law]
            lines.append(f"  new  {len(seconds)} runs of {law}, {sum(seconds):.0f} s of one core")
        return "\n".join(lines)


def draw_bill(
    specs: list[RunSpec],
    status: Callable[[str], str | None],
    cost: Callable[[RunSpec], float],
    workers: int,
    basis: str,
    left_out: dict[str, int] | None = None,
) -> Bill:
    """The bill of `specs`: `status(run_id)` is what the store holds, None for nothing; `cost(spec)` in seconds;
    `left_out` counts the runs that are in the plan but not in `specs`."""
    lines = []
    for spec in specs:
        held = status(spec.run_id)
        reused = held in SETTLED
        lines.append(Line(spec, reused, REASONS[held], 0.0 if reused else cost(spec)))
    seconds = {line.spec.run_id: line.seconds for line in lines}
    longest = max(critical_path(specs, seconds).values(), default=0.0)
    total = max(sum(seconds.values()) / workers, longest)
    return Bill(lines, workers, total / 60, basis, left_out or {})


def critical_path(specs: list[RunSpec], cost: dict[str, float]) -> dict[str, float]:
    """For each run_id the cost of the longest chain that starts with it, in the unit of `cost`."""
    children: dict[str, list[str]] = {}
    for spec in specs:
        if spec.needs:
            children.setdefault(spec.needs, []).append(spec.run_id)
    paths: dict[str, float] = {}
    for spec in reversed(parents_first(specs)):
        below = [paths[child] for child in children.get(spec.run_id, []) if child in paths]
        paths[spec.run_id] = cost[spec.run_id] + max(below, default=0.0)
    return paths


def parents_first(specs: list[RunSpec]) -> list[RunSpec]:
    """The runs of a plan in an order in which each comes after the run it starts from."""
    by_id = {spec.run_id: spec for spec in specs}
    ordered: dict[str, RunSpec] = {}
    for spec in specs:
        chain = [spec]
        while chain[-1].needs in by_id and chain[-1].needs not in ordered:
            chain.append(by_id[chain[-1].needs])
        for link in reversed(chain):
            ordered[link.run_id] = link
    return list(ordered.values())
