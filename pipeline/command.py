"""The `study` command."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from pathlib import Path

from pipeline.params import read_params
from pipeline.stage import run_stage


def main() -> None:
    """Parses the command line and exits with the code of the chosen command."""
    parser = argparse.ArgumentParser(prog="study", description="Scaling-law studies.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for function in (bill, track, ui):
        command = commands.add_parser(function.__name__, help=function.__doc__.splitlines()[0])
        command.set_defaults(function=function)
    arguments = parser.parse_args()
    raise SystemExit(run_stage(arguments.function))


def bill() -> None:
    """Print what the next study would train and what it costs, without training."""
    from pipeline.execution.run_store import RunStore
    from pipeline.study import make_bill, plan_runs

    if hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # a reader such as head may stop early
    tokens = Path("data/tokens")
    if not tokens.exists():
        raise ValueError(f"{tokens}: the corpus is not prepared yet; run `dvc repro prepare` first")
    params = read_params()
    specs, _ = plan_runs(params, tokens)
    print(make_bill(specs, RunStore(Path.cwd(), params.train.storage)).text())


def track() -> None:
    """Mirror every finished stage and run on disk to MLflow."""
    from pipeline.tracking import track_all

    track_all()


def ui() -> int:
    """Serve MLflow's pages for this project."""
    uri = os.environ.get("MLFLOW_TRACKING_URI", f"sqlite:///{Path.cwd() / 'mlflow.db'}")
    return subprocess.call([sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", uri])
