"""The best dials of a baseline recipe at every size and token count, searched for by runs of the real pipeline.

Recipe: AdamW, one cosine from scratch for each point, fixed batch, standard parametrization. Dials: the rate of all
three groups, the batch, a further factor of the rates of embedding and head, and AdamW's beta2. A dial is swept until
its best value has measured neighbours on both sides that are worse (or there is none: a batch of one window); dials are
swept in turn until none moves, the rate last with half the step. The smallest token count starts from START; a larger
one from the optimum of the one before, and sweeps rate and batch anew.
"""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Callable, Generator, Hashable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from pipeline.corpus.shards import open_corpus
from pipeline.driver import train_runs
from pipeline.execution.run_store import RunStore
from pipeline.experiments.experiment import CorpusFacts
from pipeline.experiments.language_model.plan import plan
from pipeline.params import LanguageModel, Params
from pipeline.planning.run_spec import RunSpec

LEAST_STEPS = 32
"""A batch that leaves fewer steps is not tried."""
BETA2 = (0.95, 0.99)
Search = Generator[list["Dials"], dict["Dials", float], "Dials"]


@dataclass(frozen=True)
class Dials:
    """`rate`, of the matrices, and `outer`, the rate of embedding and head over it, are log2; `batch` is in tokens."""

    rate: float
    batch: int
    outer: float = 0.0
    beta2: float = BETA2[0]

    def moved(self, dial: str, steps: int, step: float = 1.0) -> Dials | None:
        """The dials with one of them so many steps away, None where it has no such value.

        A batch moves by factors of two, and the rate with its square root, as the best rate about does.
        """
        if dial == "batch":
            batch = self.batch * 2.0**steps
            return replace(self, batch=int(batch), rate=self.rate + steps / 2) if batch == int(batch) else None
        if dial == "beta2":
            place = BETA2.index(self.beta2) + steps
            return replace(self, beta2=BETA2[place]) if 0 <= place < len(BETA2) else None
        return replace(self, **{dial: getattr(self, dial) + steps * step})


START = Dials(rate=-6.5, batch=256)


def baseline(settings: LanguageModel, width: int, tokens: int, dials: Dials) -> LanguageModel:
    """The baseline recipe for one point: shape, corpus, warm-up and evaluation are those of `settings`."""
    whole = settings.model_dump()
    outer = 2.0 ** (dials.rate + dials.outer)
    rates = {"matrix_rate": 2.0**dials.rate, "embedding_rate": outer, "head_rate": outer}
    whole["optimizer"] |= rates | {"kind": "adamw", "beta2": dials.beta2}
    whole["batch"] |= {"tokens": dials.batch, "growth_power": 0.0}
    whole["schedule"]["kind"] = "cosine"
    whole["model"]["parametrization"] = "standard"
    whole["grid"] = {"kind": "sizes_by_tokens", "widths": [width], "tokens": [tokens]}
    whole["replicates"] = {}
    return LanguageModel.model_validate(whole)


@dataclass
class Workbench:
    """The pipeline in the folder `root`, which keeps every run: what is trained once is never trained again."""

    params: Params
    tokens: Path
    root: Path
    measured: dict[tuple[int, int, Dials], RunSpec] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        # The mirror of the runs reads params.yaml beside the store; these runs stay out of the study's own MLflow.
        shutil.copy2("params.yaml", self.root / "params.yaml")
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{(self.root / 'mlflow.db').resolve()}"
        self.store = RunStore(self.root)
        corpus = open_corpus(self.tokens)
        self.facts = CorpusFacts(corpus.digest, corpus.vocab_size, len(corpus.train))

    def train(self, specs: list[RunSpec]) -> None:
        """Trains what the store does not hold. Raises RuntimeError naming the runs that failed."""
        if all(self.store.settled(spec.run_id) for spec in specs):
            return
        failed = train_runs(specs, self.store, self.params.train, self.tokens)
        if failed:
            raise RuntimeError(f"{self.root}: {len(failed)} runs failed: {failed}")

    def losses(self, asked: list[tuple[int, int, Dials]]) -> list[float]:
        """Validation loss of each (width, tokens, dials), nats/token, infinite where the run diverged."""
        for width, tokens, dials in asked:
            settings = baseline(self.params.language_model, width, tokens, dials)
            (self.measured[width, tokens, dials],) = plan(settings, self.facts)
        self.train(list({self.measured[one].run_id: self.measured[one] for one in asked}.values()))
        return [self.loss(*one) for one in asked]

    def loss(self, width: int, tokens: int, dials: Dials) -> float:
        """The loss of one that was measured."""
        result = self.store.result(self.measured[width, tokens, dials].run_id)
        return result["scalars"].get("loss", math.inf)

    def table(self) -> list[dict]:
        """Every measured setting, with its loss (None where it diverged), sorted."""
        rows = []
        for width, tokens, dials in sorted(self.measured, key=lambda one: (one[0], one[1], *asdict(one[2]).values())):
            loss = self.loss(width, tokens, dials)
            row = {"width": width, "tokens": tokens, "log2_rate": dials.rate, "batch_tokens": dials.batch}
            row |= {"log2_outer": dials.outer, "beta2": dials.beta2}
            rows.append(row | {"loss": loss if math.isfinite(loss) else None})
        return rows


def line(start: Dials, dial: str, allowed: Callable[[Dials], bool], step: float = 1.0) -> Search:
    """The best dials along one dial: its neighbours on both sides were measured, as far as they are allowed."""
    known: dict[Dials, float] = {}
    at = start
    while True:
        near = [one for steps in (-1, 0, 1) if (one := at.moved(dial, steps, step)) is not None and allowed(one)]
        wanted = [one for one in near if one not in known]
        known |= yield wanted
        best = min(known, key=known.get)
        if best == at:
            return at
        at = best


def search(counts: list[int], context: int) -> Generator[list[tuple[int, Dials]], list[float], dict[int, Dials]]:
    """The best dials at each token count of `counts` (rising), for one size."""
    found: dict[int, Dials] = {}
    known: dict[tuple[int, Dials], float] = {}
    best = START
    for tokens in counts:

        def allowed(dials: Dials, tokens: int = tokens) -> bool:
            return dials.batch % context == 0 and dials.batch * LEAST_STEPS <= tokens

        dials = ("rate", "batch") if found else ("rate", "batch", "outer", "beta2")
        sweeps = [(dial, 1.0) for dial in dials]
        while True:
            before = best
            for dial, step in [*sweeps, ("rate", 0.5)]:
                walk, answer = line(best, dial, allowed, step), None
                try:
                    while True:
                        wanted = walk.send(answer)
                        missing = [(tokens, one) for one in wanted if (tokens, one) not in known]
                        if missing:
                            known |= dict(zip(missing, (yield missing), strict=True))
                        answer = {one: known[tokens, one] for one in wanted}
                except StopIteration as done:
                    best = done.value
            if best == before:
                break
        found[tokens] = best
    return found


def run_together(searches: dict[Hashable, Generator], score: Callable[[list[tuple]], list[float]]) -> dict:
    """What each search returns; in every round `score` gets the (key, *request) of all that still go on at once."""
    waiting = {key: next(walk) for key, walk in searches.items()}
    found = {}
    while waiting:
        scores = iter(score([(key, *one) for key, asked in waiting.items() for one in asked]))
        answers = {key: [next(scores) for _ in asked] for key, asked in waiting.items()}
        waiting = {}
        for key, answer in answers.items():
            try:
                waiting[key] = searches[key].send(answer)
            except StopIteration as done:
                found[key] = done.value
    return found
