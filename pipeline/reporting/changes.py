"""What changed since the last publication: parameters, verdicts and runs, as tables of the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from pipeline.publishing.publication import Publication
from pipeline.reporting.numbers import count, decimal, known
from pipeline.reporting.tables import Cell, Table, estimate, number, words

State = Mapping[str, Any]
_ORDER = ("E", "A", "alpha", "B", "beta", "q")
_PARAMETERS = dict.fromkeys(("before", "before_low", "before_high", "now", "now_low", "now_high"), pl.Float64)
_VERDICTS = dict.fromkeys(("experiment", "law", "role", "before", "now"), pl.String)
_RUNS = {"change": pl.String, "run_id": pl.String, "kind": pl.String, "width": pl.Int64, "N": pl.Int64, "D": pl.Int64}
_RUNS |= {"seed": pl.Int64, "status": pl.String, "loss": pl.Float64, "loss_before": pl.Float64}


def compared_with(publications: Sequence[Publication], state: State) -> Publication | None:
    """The last publication that says something else than `state`, None where there is none."""
    return next((one for one in reversed(publications) if one.state != state), None)


def change_tables(publications: Sequence[Publication], state: State) -> tuple[Table, ...]:
    """The panel of the page; empty before a first publication, or while all of them say the same as `state`."""
    last = compared_with(publications, state)
    if last is None:
        return ()
    since = f"Since the publication of {last.published_at[:10]} at commit {last.commit[:7]}."
    return _parameters(since, last.state, state), _verdicts(since, last.state, state), _runs(since, last.state, state)


def change_lines(publications: Sequence[Publication], state: State) -> list[str]:
    """The same in a few lines of text."""
    if not publications:
        return ["first publication of this study"]
    last = compared_with(publications, state)
    if last is None:
        return ["nothing changed since the first publication"]
    parameters, verdicts, runs = (table.frame for table in change_tables(publications, state))
    changes = dict(runs["change"].value_counts().sort("change").iter_rows()) | _law_counts(last.state, state)
    moved = parameters.filter(~pl.col("now").is_between("before_low", "before_high"))["parameter"].to_list()
    return [
        f"since {last.name}: {', '.join(f'{number} {what}' for what, number in changes.items()) or 'the same runs'}",
        f"parameters outside their former interval: {', '.join(moved) or 'none'}",
        f"verdicts that differ: {len(verdicts)}",
    ]


def _parameters(since: str, before: State, now: State) -> Table:
    rows: list[tuple[Cell, ...]] = []
    frame = []
    for name in sorted(before["parameters"].keys() | now["parameters"].keys(), key=lambda name: (_place(name), name)):
        old, new = (state["parameters"].get(name, {}) for state in (before, now))
        ends = [(one.get("value"), one.get("low"), one.get("high")) for one in (old, new)]
        inside = None
        if all(map(known, (*ends[0], ends[1][0]))):
            inside = "inside" if old["low"] <= new["value"] <= old["high"] else "outside"
        rows.append((words(name), *(estimate(value, (low, high)) for value, low, high in ends), words(inside)))
        frame.append({"parameter": name} | dict(zip(_PARAMETERS, (*ends[0], *ends[1]), strict=True)))
    laws = [state["law"] for state in (before, now)]
    said = (
        f"{since} Law: {laws[0]['name']} then, {laws[1]['name']} now; 95 % intervals, by resampled cells, that of a as "
        "in its publication: by resampled trees where there are enough."
    )
    header = ("parameter", "then", "now", "now, by the former interval")
    table = pl.DataFrame(frame, schema={"parameter": pl.String} | _PARAMETERS)
    return Table("changes_parameters", "Parameters", said, header, tuple(rows), table, row_headed=True)


def _verdicts(since: str, before: State, now: State) -> Table:
    old, new = (
        {(one["experiment"], one["law"], one["role"]): one["verdict"] for one in state["verdicts"]}
        for state in (before, now)
    )
    differing = [key for key in dict.fromkeys([*old, *new]) if old.get(key) != new.get(key)]
    frame = pl.DataFrame([(*key, old.get(key), new.get(key)) for key in differing], schema=_VERDICTS, orient="row")
    rows = tuple(
        (words(law), words(experiment), *(_verdict(verdict) for verdict in (then, today)))
        for experiment, law, _, then, today in frame.iter_rows()
    )
    said = f"{since} Laws whose verdict differs, among {len(new)} that are judged now."
    header = ("law", "experiment", "then", "now")
    return Table("changes_verdicts", "Verdicts", said, header, rows, frame, "none: every verdict is as it was")


def _runs(since: str, before: State, now: State) -> Table:
    """Runs of the scaling study that came, went, or were trained anew: the same point by other code or settings."""
    old, new = ({one["run_id"]: one for one in state["runs"]} for state in (before, now))
    came, gone = ([one for key, one in a.items() if key not in b] for a, b in ((new, old), (old, new)))
    replaced = {_point(one): one for one in gone}
    again = {_point(one) for one in came} & replaced.keys()
    flat = [
        {"change": "trained anew" if _point(one) in again else "added"}
        | one
        | {"loss_before": replaced[_point(one)]["loss"] if _point(one) in again else None}
        for one in came
    ]
    flat += [{"change": "removed"} | one for one in gone if _point(one) not in again]
    frame = pl.DataFrame(flat, schema=_RUNS).sort("change", "N", "D", "seed", "kind", "run_id")
    rows = tuple(
        (
            words(one["change"]),
            words(one["run_id"]),
            words(one["kind"]),
            number(one["width"], str),
            number(one["N"], count),
            number(one["D"], count),
            number(one["seed"], str),
            number(one["loss_before"], lambda value: decimal(value, 4)),
            number(one["loss"], lambda value: decimal(value, 4)),
        )
        for one in frame.iter_rows(named=True)
    )
    laws = [f"{number} {what}" for what, number in _law_counts(before, now).items()]
    said = f"{since} Runs of the scaling study. Beside it: {', '.join(laws) or 'no run came or went'}."
    header = ("change", "run", "kind", "width", "N", "D, tokens", "seed", "loss then", "loss now")
    return Table("changes_runs", "Runs", said, header, rows, frame, "none: the same runs", folded=len(rows) > 20)


def _law_counts(before: State, now: State) -> dict[str, int]:
    """Runs of laws of learning mechanics that came and went, where there are any."""
    old, new = ({run_id for ids in state["law_runs"].values() for run_id in ids} for state in (before, now))
    counts = {"runs of other laws added": len(new - old), "runs of other laws removed": len(old - new)}
    return {what: number for what, number in counts.items() if number}


def _point(run: Mapping[str, Any]) -> tuple:
    return tuple(run[name] for name in ("kind", "width", "N", "D", "seed"))


def _place(parameter: str) -> int:
    return _ORDER.index(parameter) if parameter in _ORDER else len(_ORDER)


def _verdict(verdict: str | None) -> Cell:
    return words(None) if verdict is None else words(verdict.replace("_", " "), verdict=verdict)
