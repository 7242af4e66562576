"""Runs that wait: for their parent, or, ready to start, for room, the longest chain first.

What a run needs is looked up once; from then on each change touches the runs that it concerns and no others, so a plan
of n runs costs n log n steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from heapq import heappop, heappush

from pipeline.execution.placement import Request
from pipeline.planning.run_spec import RunSpec

SHARES = 32
"""A slot is given out in so many parts."""
SHORT_SECONDS = 0.25
"""What the runs that share a slot may take together. A run that takes longer has a slot to itself."""


class Queue:
    """The waiting runs of a plan. `longest`: seconds of the longest chain that starts with a run; `seconds`: of the run
    alone; `request`: what it asks for; `slots`: how many cores and GPUs there are, as in Cluster.

    Runs that take milliseconds share a slot, so that the next one is with its worker when the one before has ended.
    """

    def __init__(
        self,
        longest: Mapping[str, float],
        seconds: Mapping[str, float],
        request: Callable[[RunSpec], Request],
        slots: Mapping[str, int],
    ):
        self._longest, self._seconds, self._request = longest, seconds, request
        self._room = {name: number * SHARES for name, number in slots.items()}
        self._ready: dict[str, list[tuple[float, str, RunSpec]]] = {name: [] for name in slots}
        self._children: dict[str, list[RunSpec]] = {}

    def wait(self, spec: RunSpec, parent: str) -> None:
        """Keeps `spec` until `children` is asked for those of `parent`."""
        self._children.setdefault(parent, []).append(spec)

    def children(self, run_id: str) -> list[RunSpec]:
        """The runs that waited for this one, which wait no longer."""
        return self._children.pop(run_id, [])

    def add(self, spec: RunSpec) -> None:
        """Puts a run that nothing holds up among the ready ones."""
        heappush(self._ready[self._request(spec).place], (-self._longest[spec.run_id], spec.run_id, spec))

    def startable(self) -> Iterator[RunSpec]:
        """Takes out the ready runs that there is room for, the longest chain first; none overtakes on its own place.

        Each has its room until `vacate`.
        """
        for place, ready in self._ready.items():
            while ready and self._room[place] >= (share := self._share(ready[0][2])):
                self._room[place] -= share
                yield heappop(ready)[2]

    def vacate(self, spec: RunSpec) -> None:
        """Gives back the room of a run that will not be tried again."""
        self._room[self._request(spec).place] += self._share(spec)

    def _share(self, spec: RunSpec) -> int:
        """Parts of a slot, from one to all that the run's part of a GPU or core makes up; several slots for several."""
        request = self._request(spec)
        if request.devices > 1:
            return request.devices * SHARES
        return max(1, min(SHARES // request.sharers, round(SHARES * self._seconds[spec.run_id] / SHORT_SECONDS)))
