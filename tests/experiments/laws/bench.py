"""A law carried out in this process, through the real run store and collector: for tests, and for trying a law out.

    python -m tests.experiments.laws.bench deep_linear [figures]

runs the law with the dials of params.yaml, prints its findings and CPU seconds, and writes its figures to that folder.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl
from ruamel.yaml import YAML

from pipeline.execution.run_store import RunStore
from pipeline.experiments.experiment import Finding, Judgement, RunContext, RunResult, StudyFacts, reads, step
from pipeline.experiments.verdict import overall
from pipeline.params import LanguageModel, Params, Section, read_params
from pipeline.results import collect_law
from tests.small_study import SMALL

ROOT = Path(__file__).resolve().parents[3]


@dataclass(frozen=True)
class Tried:
    """A law after its runs: its settings, tables and judgement."""

    settings: Section
    runs: pl.DataFrame
    curves: pl.DataFrame
    judgement: Judgement

    def finding(self, law: str, role: str = "law") -> Finding:
        """The one finding of that law and role."""
        (found,) = [one for one in self.judgement.findings if (one.law, one.role) == (law, role)]
        return found


def dials(law: str) -> dict:
    """The section of the law in the project's params.yaml, as it stands there."""
    return YAML(typ="safe").load(ROOT / "params.yaml")["laws"][law]


def read_laws(folder: Path, laws: dict) -> Params:
    """The small study's parameters with these laws, through the only reader of params.yaml."""
    tree = YAML(typ="safe").load(SMALL) | {"laws": laws}
    with (folder / "params.yaml").open("w") as file:
        YAML(typ="safe").dump(tree, file)
    return read_params(folder / "params.yaml")


def try_law(law: str, tokens: Path = Path("data/tokens"), **changed: object) -> Tried:
    """The law with the dials of params.yaml, `changed` as told; `tokens` for a law that reads the corpus."""
    with TemporaryDirectory() as place:
        params = read_laws(Path(place), {law: dials(law) | changed})
        settings = params.laws.tested[law]
        model = LanguageModel.model_validate(YAML(typ="safe").load(ROOT / "params.yaml")["language_model"])
        facts = StudyFacts(digest_of(tokens), 256, 5_000_000, model)
        specs, store = step(law, "plan")(settings, facts), RunStore(Path(place))
        if reads(law) != law:
            runs, curves = (pl.read_parquet(ROOT / "results" / f"{name}.parquet") for name in ("runs", "curves"))
            return Tried(settings, runs, curves, step(law, "judge")(settings, runs, curves))
        for spec in specs:
            store.scratch(spec.run_id).mkdir(parents=True)
            context = RunContext(str(tokens), None, store.working_checkpoint(spec.run_id), 60.0, 8192)
            began = time.process_time()
            *_, last = step(law, "run")(spec, context)
            assert isinstance(last, RunResult)
            store.add(spec, last, {"seconds": time.process_time() - began, "attempts": 1})
        runs, curves = collect_law(specs, store)
        return Tried(settings, runs, curves, step(law, "judge")(settings, runs, curves))


@cache
def digest_of(tokens: Path) -> str:
    """The digest of a prepared corpus, "" where there is none."""
    from pipeline.corpus.shards import open_corpus

    return open_corpus(tokens).digest if tokens.exists() else ""


def main() -> None:
    """Tries the law that the command line names."""
    law, began = sys.argv[1], time.process_time()
    tried = try_law(law)
    for one in tried.judgement.findings:
        print(f"{one.role:9}{one.verdict:13}{one.law}: predicted {one.predicted:.4g}, measured {one.measured},")
        print(f"{'':22}interval {one.interval}, tolerance {one.tolerance}. {one.statement}")
    print(overall([one.as_dict() for one in tried.judgement.findings]), tried.judgement.summary)
    print(f"{tried.runs.height} runs, {time.process_time() - began:.1f} CPU seconds")
    if len(sys.argv) > 2:
        tables = tried.judgement.tables
        for figure in step(law, "draw")(tried.judgement.summary, tables, tried.runs, tried.curves):
            (Path(sys.argv[2]) / f"{figure.name}.svg").write_text(figure.svg)


if __name__ == "__main__":
    main()
