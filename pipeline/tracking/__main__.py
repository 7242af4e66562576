"""The process that mirrors stages beside a stage of the study: python -m pipeline.tracking collect fit report."""

from __future__ import annotations

import sys

from pipeline.stage import run_stage
from pipeline.tracking.driver import mirror_when_told

if __name__ == "__main__":
    raise SystemExit(run_stage(lambda: mirror_when_told(*sys.argv[1:])))
