"""Draw the figures and write the report: results/ -> reports/."""

from __future__ import annotations

from pathlib import Path

from pipeline.params import read_params
from pipeline.reporting.study_report import write_report
from pipeline.stage import run_stage
from pipeline.tracking import mirror_beside

ROOT = Path()


def main() -> None:
    """Writes the report, and mirrors it with the results that it shows."""
    with mirror_beside("collect", "fit", "report"):
        print(write_report(read_params(), ROOT, ROOT))


if __name__ == "__main__":
    raise SystemExit(run_stage(main))
