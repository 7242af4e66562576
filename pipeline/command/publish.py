"""Publish the study: freeze what it says and foretells, build site/, and ship its runs where DVC has a remote."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

MOST_NAMED = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the option of `study publish`."""
    parser.add_argument(
        "--dry-run", action="store_true", help="say what would be published, or why it is refused; write nothing"
    )


def command(arguments: argparse.Namespace) -> None:
    """Publishes the study in the working directory, or builds the site of its last publication again.

    Raises ValueError, before anything is written, for a study that is not committed, or not what its parameters, code
    and data make.
    """
    from pipeline.publishing.publication import write_publication
    from pipeline.publishing.site import build_site
    from pipeline.reporting.changes import change_lines

    root = Path.cwd()
    _check_clean(root)
    one, publications = _publication(root)
    if publications and publications[-1].state == one.state:
        print(f"published  nothing new since {publications[-1].name}")
        print(f"site       {build_site(root)}" if not arguments.dry_run else "site       not built: a dry run")
        return
    law, forecast = one.state["law"], one.forecasts
    print(f"study      {law['name']} law, {law['num_points']} points, {len(one.state['verdicts'])} findings")
    print("\n".join(f"changes    {line}" for line in change_lines(publications, one.state)))
    farthest = (
        f", the farthest at {max(x['extrapolation'] for x in forecast):.3g} times the compute" if forecast else ""
    )
    print(f"forecasts  {len(forecast)} frozen{farthest}")
    if arguments.dry_run:
        print(f"nothing written: a dry run; it would be {one.path}")
        return
    print(f"runs       {_ship(root)}")
    path = write_publication(root, one)
    try:
        _call(root, "dvc", "repro", "--single-item", "report")
        built = build_site(root)
    except BaseException:
        path.unlink()
        raise
    print(f"published  {one.path}")
    print(f"site       {built}")
    print(f"to deploy  git add {one.path} reports dvc.lock && git commit -m 'Publish {one.name}' && git push")


def _publication(root: Path):
    """(what would be published now, the publications so far)."""
    from pipeline.experiments.experiment import LANGUAGE_MODEL
    from pipeline.experiments.language_model.outlook import predictor_of
    from pipeline.params import read_params
    from pipeline.planning.table import read_plan
    from pipeline.publishing.forecasts import forecasts
    from pipeline.publishing.publication import Publication
    from pipeline.publishing.state import state_of
    from pipeline.reporting.inputs import read_inputs
    from pipeline.reporting.provenance import read_commit
    from pipeline.study import study_facts

    params, inputs = read_params(), read_inputs(root)
    commit, _ = read_commit(root)
    if commit is None:
        raise ValueError(f"{root}: not a git repository with a commit; a publication names the commit of its results")
    _, specs = read_plan(root / "plan/runs.parquet")
    summary = inputs.experiments[LANGUAGE_MODEL]["summary"]
    predictor = predictor_of(summary, inputs.tables[LANGUAGE_MODEL])
    foretold = forecasts(
        params.language_model, study_facts(params, root / "data/tokens"), predictor, summary["convention"], specs
    )
    cited = params.publish
    authors = cited.authors or _authors(root)
    citation = {"title": params.study.name, "authors": authors, "licence": cited.licence, "url": cited.url}
    state = json.loads(json.dumps(state_of(inputs.experiments, inputs.runs, inputs.law_runs)))
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return Publication(now, commit, citation, state, foretold), inputs.publications


def _check_clean(root: Path) -> None:
    """Raises ValueError for changes that are not committed, or stages that are out of date."""
    dirty = [line[3:] for line in _call(root, "git", "status", "--porcelain", "--no-renames").splitlines()]
    if dirty:
        raise ValueError(f"{_some(dirty)}: not committed; a publication names the commit of its results")
    stale = json.loads(_call(root, "dvc", "status", "--json"))
    if stale:
        whys = [
            f"{stage} ({what} {path}: {how})"
            for stage, facts in stale.items()
            for fact in facts
            if isinstance(fact, dict)
            for what, paths in fact.items()
            for path, how in paths.items()
        ]
        raise ValueError(f"dvc status: {_some(whys)}: the study is out of date; run `make study` and commit it")


def _ship(root: Path) -> str:
    """Pushes what DVC keeps of the study to the default remote, and says where it is."""
    remote = _call(root, "dvc", "config", "core.remote").strip()
    if not remote:
        return "no DVC remote is set, so they stay on this machine; `dvc remote add -d NAME URL` names one"
    _call(root, "dvc", "push")
    return f"shipped to the DVC remote {remote}"


def _authors(root: Path) -> list[str]:
    names = _call(root, "git", "log", "--format=%aN").splitlines()
    return sorted(set(names), key=lambda name: (-names.count(name), name))


def _some(names: list[str]) -> str:
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more


def _call(root: Path, tool: str, *arguments: str) -> str:
    """What git or dvc prints. Raises ValueError with the last line of what it complains of."""
    program = ["git"] if tool == "git" else [sys.executable, "-m", "dvc"]
    try:
        done = subprocess.run([*program, *arguments], cwd=root, capture_output=True, text=True)
    except FileNotFoundError:
        raise ValueError(f"{tool}: not installed") from None
    if done.returncode:
        said = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        raise ValueError(f"{tool} {' '.join(arguments)}: {said[-1] if said else f'exit code {done.returncode}'}")
    return done.stdout
