"""Plans the runs of every experiment that is on, and prints the bill before anything is spent."""

from __future__ import annotations

from pathlib import Path

from pipeline.execution.run_store import RunStore
from pipeline.params import read_params
from pipeline.planning.table import plan_table
from pipeline.stage import run_stage
from pipeline.study import make_bill, plan_runs
from pipeline.unwatched import code_elsewhere

OUT = Path("plan/runs.parquet")


def main() -> None:
    """Writes plan/runs.parquet."""
    params = read_params()
    specs, described = plan_runs(params, Path("data/tokens"))
    for told in (make_bill(specs, RunStore(Path.cwd())).text(), *code_elsewhere(params.language_model.model)):
        print(told, flush=True)
    OUT.parent.mkdir(exist_ok=True)
    plan_table(specs, described).write_parquet(OUT)


if __name__ == "__main__":
    raise SystemExit(run_stage(main))
