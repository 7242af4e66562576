"""Expected seconds of a run, from runs that were timed here before or from a short measurement."""

from __future__ import annotations

from statistics import median

from pipeline.execution.run_store import RunStore
from pipeline.experiments.experiment import step
from pipeline.planning.run_spec import RunSpec, canonical_json


class Throughput:
    """Seconds of a run by what it trains: the median FLOP/s of stored runs of that kind, else what a few steps of some
    models, timed now, say of all.

    A run that states its expected seconds takes as much longer as stored runs of its experiment took.
    """

    def __init__(self, specs: list[RunSpec], store: RunStore):
        timed: dict[str, list[float]] = {}
        for spec in specs:
            facts = store.telemetry(spec.run_id)
            if facts and facts["seconds"] > 0 and facts["attempts"] == 1:
                timed.setdefault(_model(spec), []).append(_work(spec) / facts["seconds"])
        self._specs = specs
        self._rates = {model: median(rates) for model, rates in timed.items()}
        self.basis = "throughput of earlier runs" if self._rates else "throughput measured now"

    def seconds(self, spec: RunSpec) -> float:
        """Expected seconds of `spec` on one worker."""
        model = _model(spec)
        if model not in self._rates:
            self._measure([spec, *self._specs])
        return _work(spec) / self._rates[model]

    def _measure(self, specs: list[RunSpec]) -> None:
        """The rates of all models of `specs` that no stored run tells of."""
        new: dict[str, RunSpec] = {}
        for spec in specs:
            if (model := _model(spec)) not in self._rates:
                new.setdefault(model, spec)
        self._rates |= {model: 1.0 for model, spec in new.items() if not spec.flops}
        for name in {spec.experiment for spec in new.values() if spec.flops}:
            counted = {model: spec for model, spec in new.items() if spec.flops and spec.experiment == name}
            self._rates |= zip(counted, step(name, "measure")(list(counted.values())), strict=True)


def _work(spec: RunSpec) -> float:
    return spec.flops or spec.expected_seconds


def _model(spec: RunSpec) -> str:
    if not spec.flops:
        return spec.experiment
    return canonical_json(
        [spec.experiment, {k: v for k, v in spec.settings.items() if k not in ("course", "evaluation")}]
    )
