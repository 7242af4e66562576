"""The `study` command."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from io import TextIOWrapper
from pathlib import Path
from typing import NoReturn

from pipeline.command.options import joined
from pipeline.stage import run_stage


class _Parser(argparse.ArgumentParser):
    """A parser that tells a wrong command line in one line."""

    def error(self, message: str) -> NoReturn:
        """Exits with 2, as argparse does, without the usage."""
        self.exit(2, f"error: {message}; see `{self.prog} --help`\n")


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Parses the command line (`argv`, None for that of the process) and exits with the code of the chosen command."""
    _open_streams()
    raise SystemExit(run_stage(partial(_run, argv), "stopped"))


def _run(argv: Sequence[str] | None) -> int | None:
    """What the chosen command returns."""
    from pipeline.command import fit, laws, predict, proposal, publish, quarantine, report, verify

    parser = _Parser(prog="study", description="Scaling-law studies.", allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)
    for function in (bill, track, ui):
        command = commands.add_parser(function.__name__, help=function.__doc__.splitlines()[0])
        command.set_defaults(call=lambda arguments, function=function: function())
    for name, about, add_arguments, call in (
        ("fit", fit, fit.add_arguments, fit.command),
        ("predict", predict, predict.add_arguments, predict.command),
        ("next", proposal, proposal.add_arguments, proposal.command),
        ("laws", laws, laws.add_arguments, laws.command),
        ("report", report, report.add_arguments, report.command),
        ("publish", publish, publish.add_arguments, publish.command),
        ("verify", verify, verify.add_arguments, verify.command),
        ("retry", quarantine.retry, quarantine.add_retry_arguments, quarantine.retry),
        ("waive", quarantine.waive, quarantine.add_waive_arguments, quarantine.waive),
    ):
        line = about.__doc__.splitlines()[0]
        command = commands.add_parser(name, help=line, description=line, allow_abbrev=False)
        add_arguments(command)
        command.set_defaults(call=call)
    arguments = parser.parse_args(joined(sys.argv[1:] if argv is None else argv))
    return arguments.call(arguments)


def _open_streams() -> None:
    """Lets whatever is printed go somewhere: nowhere where standard output or error is closed, and as escapes where it
    is no text of the terminal, such as a file name that is no UTF-8."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def bill() -> None:
    """Print what the next study would train, what it costs and what it would tell, without training."""
    from pipeline.command.worth import worth_text
    from pipeline.execution.run_store import RunStore
    from pipeline.params import read_params
    from pipeline.planning.table import plan_table
    from pipeline.planning.waivers import idle_waivers, read_waivers
    from pipeline.study import make_bill, plan_runs
    from pipeline.unwatched import code_elsewhere, sources_elsewhere

    params = read_params()
    tokens = Path("data/tokens")
    if tokens.exists():
        _check_prepared()
    specs, described = plan_runs(params, tokens)
    print(make_bill(specs, RunStore(Path.cwd())).text())
    for line in idle_waivers(specs, read_waivers(Path.cwd())):
        print(line)
    print(worth_text(plan_table(specs, described), params.fit.convention))
    for note in (*sources_elsewhere(params.prepare.sources), *code_elsewhere(params.language_model.model)):
        print(note)


def _check_prepared() -> None:
    """Raises ValueError where the corpus on disk is not that of params.yaml: a bill of it would be of another study."""
    checked = subprocess.run(
        [sys.executable, "-m", "dvc", "status", "--json", "prepare"], capture_output=True, text=True, check=False
    )
    if checked.returncode == 0 and json.loads(checked.stdout):
        raise ValueError("data/tokens: prepared from other sources than those of today; run `dvc repro prepare` first")


def track() -> None:
    """Mirror every finished stage and run on disk to MLflow."""
    from pipeline.tracking import track_all

    track_all()


def ui() -> int:
    """Serve MLflow's pages for this project."""
    from pipeline.command.params_file import require

    require()
    uri = os.environ.get("MLFLOW_TRACKING_URI", f"sqlite:///{Path.cwd() / 'mlflow.db'}")
    return subprocess.call([sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", uri])
