"""The study as a whole: the plan of its experiments from params.yaml and the corpus, and the bill."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipeline.corpus.batches import evaluation_set
from pipeline.corpus.shards import open_corpus
from pipeline.execution.placement import num_workers
from pipeline.execution.run_store import RunStore
from pipeline.execution.throughput import Throughput
from pipeline.experiments.experiment import LANGUAGE_MODEL, StudyFacts, step
from pipeline.experiments.language_model.plan import describe
from pipeline.params import Params
from pipeline.planning.bill import Bill, draw_bill
from pipeline.planning.run_spec import SETTLED, RunSpec
from pipeline.planning.waivers import read_waivers, waived_runs, with_descendants


def plan_runs(params: Params, tokens: Path) -> tuple[list[RunSpec], list[dict]]:
    """The runs of all experiments that are on, and the descriptive columns of each (see planning/table.py)."""
    facts = study_facts(params, tokens)
    specs = step(LANGUAGE_MODEL, "plan")(params.language_model, facts)
    described = [describe(spec, params.language_model.seed) for spec in specs]
    laws = [spec for runs in _plan_laws(params, facts).values() for spec in runs]
    _check_validation(tokens, specs + laws)
    return specs + laws, described + [{}] * len(laws)


def plan_laws(params: Params, tokens: Path) -> dict[str, list[RunSpec]]:
    """The runs of every law of learning mechanics that is on, by its name."""
    planned = _plan_laws(params, study_facts(params, tokens))
    _check_validation(tokens, [spec for runs in planned.values() for spec in runs])
    return planned


def _plan_laws(params: Params, facts: StudyFacts) -> dict[str, list[RunSpec]]:
    return {name: step(name, "plan")(settings, facts) for name, settings in params.laws.tested.items()}


def _check_validation(tokens: Path, specs: list[RunSpec]) -> None:
    """Raises ValueError where a run wants more validation windows than the corpus has: known before it is trained."""
    most_wanted: dict[tuple[int, int], tuple[int, str]] = {}
    for spec in specs:
        if asked := spec.settings.get("evaluation"):
            own = spec.experiment == LANGUAGE_MODEL
            place = f"{LANGUAGE_MODEL}.evaluation.windows" if own else f"laws.{spec.experiment}, windows"
            key = spec.settings["model"]["context"], asked["windows_per_document"]
            most_wanted[key] = max(most_wanted.get(key, (0, "")), (asked["windows"], place))
    corpus = open_corpus(tokens)
    for (context, most), (count, place) in most_wanted.items():
        try:
            evaluation_set(corpus.validation, corpus.validation_documents, context, count, most)
        except ValueError as error:
            raise ValueError(f"params.yaml: {place}: {str(error).partition(': ')[2]}") from None


def study_facts(params: Params, tokens: Path) -> StudyFacts:
    """What planners may know of the study. Raises ValueError where its corpus is not prepared."""
    if not tokens.exists():
        raise ValueError(f"{tokens}: the corpus is not prepared yet; run `dvc repro prepare` first")
    corpus = open_corpus(tokens)
    return StudyFacts(corpus.digest, corpus.vocab_size, len(corpus.train), params.language_model)


@dataclass(frozen=True)
class Sorted:
    """The runs of a plan by what there is to do: `ready` to train or to reuse, `waived`, and held up because they, or
    the run they start from, `failed`; the last two with a reason by run_id. `held` is the status of every run in the
    store."""

    held: dict[str, str | None]
    ready: list[RunSpec]
    waived: dict[str, str]
    failed: dict[str, str]

    @property
    def new(self) -> bool:
        """Whether there is anything to train."""
        return any(self.held[spec.run_id] not in SETTLED for spec in self.ready)


def sort_out(specs: list[RunSpec], store: RunStore) -> Sorted:
    """The runs of a plan, with those that a study leaves alone told apart: a run that failed waits for a decision."""
    waived = waived_runs(specs, read_waivers(store.root))
    held = {spec.run_id: store.status(spec.run_id) for spec in specs}
    failures = {
        run_id: store.result(run_id)["reason"].strip().splitlines()[-1]
        for run_id, status in held.items()
        if run_id not in waived and status == "failed"
    }
    rest = [spec for spec in specs if spec.run_id not in waived and held[spec.run_id] not in SETTLED]
    failed = with_descendants(rest, failures, "failed")
    return Sorted(held, [spec for spec in specs if spec.run_id not in waived | failed], waived, failed)


def make_bill(specs: list[RunSpec], store: RunStore) -> Bill:
    """The bill of `specs` against what `store` holds."""
    return bill_of(sort_out(specs, store), store)


def bill_of(runs: Sorted, store: RunStore) -> Bill:
    """The bill of runs that are sorted out already."""
    throughput = Throughput(runs.ready if runs.new else [], store)
    basis = throughput.basis if runs.new else "nothing to train"
    left_out = {"waived": len(runs.waived), "held up by a failure": len(runs.failed)}
    left_out = {what: number for what, number in left_out.items() if number}
    return draw_bill(runs.ready, runs.held.get, throughput.seconds, num_workers(), basis, left_out)
