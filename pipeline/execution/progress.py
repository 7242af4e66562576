"""The live display of a study in training, and one line for every run that ends."""

from __future__ import annotations

import time
from collections import Counter
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from pipeline.execution.executor import Event
from pipeline.planning.bill import Bill
from pipeline.planning.run_spec import SETTLED

ENDED = (*SETTLED, "failed")


class Display:
    """A watcher for an Executor: runs done, tokens/s, time left; a context manager.

    Time left is what the bill expected of the work that remains, corrected, once a tenth is done, by how the work so
    far compared with it.
    """

    def __init__(self, bill: Bill):
        self.expected = {line.spec.run_id: line.seconds for line in bill.new}
        self.total, self.workers, self.minutes = len(bill.new), bill.workers, bill.minutes
        self.runs_of = Counter(line.spec.experiment for line in bill.new)
        self.left = Counter(self.runs_of)
        self.planned = sum(self.expected.values())
        self.done = 0.0
        self.ended = 0
        self.tokens: dict[str, tuple[int, int]] = {}
        self.seen = 0
        self.began = time.monotonic()
        self.console = Console(soft_wrap=True)
        self.bar = Progress(
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("runs  {task.fields[note]}"),
            TimeElapsedColumn(),
            console=self.console,
            disable=not self.console.is_terminal,
        )
        self.task = self.bar.add_task("training", total=self.total, note="")

    def __enter__(self) -> Display:
        self.bar.__enter__()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.bar.__exit__(kind, error, trace)

    def __call__(self, event: Event) -> None:
        """Takes note of one event."""
        run_id = event.spec.run_id
        if event.result:
            self._saw(run_id, event.result.resumed_from, event.result.done)
        elif event.done:
            first, _ = self.tokens.get(run_id, (event.done, event.done))
            self._saw(run_id, first, event.done)
        if event.kind == "retried":
            self.console.print(f"  retry {event.spec.label}: {event.detail}", markup=False)
        if event.kind not in ENDED:
            self.bar.update(self.task, note=self.note())
            return
        self.ended += 1
        self.done += self.expected.get(run_id, 0.0)
        self.bar.update(self.task, completed=self.ended, note=self.note())
        if not event.spec.flops:
            self._law_goes_on(event.spec.experiment)
            if event.kind == "finished":
                return
        result, outcome = event.result, event.kind
        if event.kind == "finished" and "loss" in result.scalars:
            outcome = f"loss {result.scalars['loss']:.4f} nats/token"
        elif event.detail:
            outcome = f"{event.kind}: {event.detail}"
        self.console.print(f"  [{self.ended}/{self.total}] {event.spec.label}: {outcome}; {self.note()}", markup=False)

    def _saw(self, run_id: str, first: int, last: int) -> None:
        before = self.tokens.get(run_id, (0, 0))
        self.seen += (last - first) - (before[1] - before[0])
        self.tokens[run_id] = (first, last)

    def _law_goes_on(self, law: str) -> None:
        """One line for all runs of a law of learning mechanics, once the last of them has ended."""
        self.left[law] -= 1
        if not self.left[law]:
            runs = self.runs_of[law]
            self.console.print(f"  [{self.ended}/{self.total}] {law}: {runs} runs ended; {self.note()}")

    def note(self) -> str:
        """Tokens a second over all workers, where any are seen, and the time left."""
        elapsed = max(time.monotonic() - self.began, 1e-9)
        average = self.minutes * 60 / self.planned if self.planned else 0.0
        pace = elapsed / self.done if self.done > self.planned / 10 else average
        speed = f"{self.seen / elapsed / 1e3:.1f}k tokens/s, " if self.seen else ""
        return f"{speed}about {max(self.planned - self.done, 0.0) * pace / 60:.1f} min left"
