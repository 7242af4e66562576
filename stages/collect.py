"""Collects the records of the planned runs into the tables of results/."""

from __future__ import annotations

from pathlib import Path

from pipeline.execution.run_store import RunStore
from pipeline.experiments.experiment import LANGUAGE_MODEL
from pipeline.external.collect import collect_external
from pipeline.outputs import replaced
from pipeline.params import read_section
from pipeline.planning.table import read_plan
from pipeline.results import collect_study, waived
from pipeline.stage import run_stage

RESULTS = Path("results")
OUTPUTS = ("external", "laws", "runs.parquet", "runs.csv", "curves.parquet")


def main() -> None:
    """Writes results/runs.parquet, runs.csv and curves.parquet, two tables a law in laws/, and external/ beside."""
    settings = read_section("collect")
    plan, specs = read_plan(Path("plan/runs.parquet"))
    store = RunStore(Path.cwd())
    laws = [spec for spec in specs if spec.experiment != LANGUAGE_MODEL]
    with replaced(RESULTS, OUTPUTS) as out:
        runs = collect_study(plan, laws, store, out, waived(specs, store.root))
        runs.write_csv(out / "runs.csv", float_precision=settings.round_digits)
        external = collect_external(settings.external, out)
    for status, count in runs.group_by("status").len().sort("status").iter_rows():
        print(f"{status}: {count} runs")
    for line in external:
        print(line)


if __name__ == "__main__":
    raise SystemExit(run_stage(main))
