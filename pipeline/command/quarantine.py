"""What is done about runs that failed: train them again, or go on without them."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path

from pipeline.command.words import STATES

RETRIED = "only a failed or a waived run is tried again"
WAIVED = "only a failed run can be waived"


def add_retry_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `study retry`."""
    parser.add_argument(
        "runs", nargs="+", metavar="RUN_ID", help="a failed or waived run; the start of its id is enough"
    )


def add_waive_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `study waive`."""
    parser.add_argument("runs", nargs="+", metavar="RUN_ID", help="a failed run; the start of its id is enough")
    parser.add_argument(
        "--reason", required=True, metavar="TEXT", help="why the study can do without; the report says so"
    )


def retry(arguments: argparse.Namespace) -> None:
    """Forget that runs failed or were waived: the next study trains them.

    Raises ValueError for a run that is not known, or neither failed nor waived; nothing is changed then.
    """
    from pipeline.command.params_file import require
    from pipeline.execution.driver_lock import only_driver
    from pipeline.execution.run_store import RunStore
    from pipeline.planning.waivers import read_waivers, write_waivers

    require()
    store = RunStore(Path.cwd())
    with only_driver(store.root):
        waivers = read_waivers(store.root)
        chosen = _chosen(arguments.runs, store, waivers, ("failed", "waived"), RETRIED)
        if waivers.keys() & set(chosen):
            write_waivers(store.root, {run_id: why for run_id, why in waivers.items() if run_id not in chosen})
        for run_id in chosen:
            if store.status(run_id) == "failed":
                store.forget(run_id)
            print(f"{run_id}: the next study trains it")


def waive(arguments: argparse.Namespace) -> None:
    """Go on without runs that failed, and without those that start from them: waivers.json keeps the reason.

    Raises ValueError for a run that is not known or did not fail, or without a reason; nothing is changed then.
    """
    from pipeline.command.params_file import require
    from pipeline.execution.driver_lock import only_driver
    from pipeline.execution.run_store import RunStore
    from pipeline.planning.waivers import read_waivers, write_waivers

    require()
    store, reason = RunStore(Path.cwd()), " ".join(arguments.reason.split())
    if not reason:
        raise ValueError("--reason: an empty text is no reason")
    with only_driver(store.root):
        waivers = read_waivers(store.root)
        chosen = _chosen(arguments.runs, store, waivers, ("failed",), WAIVED)
        write_waivers(store.root, waivers | dict.fromkeys(chosen, reason))
    for run_id in chosen:
        print(f"{run_id}: waived; commit waivers.json")


def _chosen(prefixes: list[str], store, waivers: dict[str, str], states: tuple[str, ...], rule: str) -> list[str]:
    """The ids that start with one of `prefixes`, among all runs of the plan, the store and the waivers.

    Raises ValueError for none or several, for one that is not known where nothing was planned or tried, and for a run
    that is in none of `states`, as the `rule` says.
    """
    from pipeline.planning.table import read_plan

    plan, tried = store.root / "plan/runs.parquet", store.recorded()
    parents = dict(read_plan(plan)[0].select("run_id", "parent_id").iter_rows()) if plan.exists() else {}
    known = parents.keys() | tried | set(waivers)
    unknown = [prefix for prefix in prefixes if not any(run_id.startswith(prefix) for run_id in known)]
    if unknown and not plan.exists() and not tried:
        raise ValueError(
            f"plan/runs.parquet: no such file, and no run {unknown[0]!r} was tried here; plan the study first "
            "(make study, or dvc repro plan)"
        )
    chosen, state_of = named(prefixes, known), partial(_state, store=store, waivers=waivers)
    for run_id in chosen:
        if (state := state_of(run_id)) not in states:
            raise ValueError(f"RUN_ID: {run_id} is {state}: {_held_up(run_id, parents, state_of) or rule}")
    return chosen


def _state(run_id: str, store, waivers: dict[str, str]) -> str:
    """The state of a run, in a word for people."""
    if run_id in waivers:
        return "waived"
    return STATES.get(state := store.status(run_id), state)


def _held_up(run_id: str, parents: dict[str, str | None], state_of: Callable[[str], str]) -> str | None:
    """Which run to decide on instead of one that waits for it, None for a run that waits for no decision."""
    waiting = run_id
    while waiting is not None and state_of(waiting) in STATES.values():
        waiting = parents.get(waiting)
    above = waiting and state_of(waiting)
    if above == "failed":
        return f"it starts from {waiting}, which failed; retry or waive that one"
    if above == "waived":
        return f"it starts from {waiting}, which is waived, and is left out with it; retry that one"
    return None


def named(prefixes: list[str], known: set[str]) -> list[str]:
    """The ids among `known` that start with one of `prefixes`, one for each. Raises ValueError for none or several."""
    found = []
    for prefix in prefixes:
        matching = sorted(run_id for run_id in known if prefix and run_id.startswith(prefix))
        if not matching:
            raise ValueError(f"RUN_ID: {prefix!r} is no run of this study")
        if len(matching) > 1 and prefix not in matching:
            shown = ", ".join(matching[:4]) + (", …" if len(matching) > 4 else "")
            raise ValueError(f"RUN_ID: {prefix!r} is the start of {len(matching)} runs: {shown}")
        found.append(prefix if prefix in matching else matching[0])
    return list(dict.fromkeys(found))
