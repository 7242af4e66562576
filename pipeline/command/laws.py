"""List the laws of learning mechanics with their cost and verdict; --run tests them."""

from __future__ import annotations

import argparse
from pathlib import Path

from pipeline.reporting.numbers import duration

RESULTS, TOKENS, REPORTS = Path("results"), Path("data/tokens"), Path("reports")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `study laws`."""
    parser.add_argument("names", nargs="*", metavar="LAW", help="only these laws")
    parser.add_argument("--run", action="store_true", help="train what has no record yet, judge, and draw the figures")


def command(arguments: argparse.Namespace) -> int:
    """1 when a run failed, else 0."""
    from pipeline.driver import tell_failed
    from pipeline.execution.run_store import RunStore
    from pipeline.experiments.experiment import known_laws
    from pipeline.params import read_params
    from pipeline.storage import storage_uri
    from pipeline.study import plan_laws

    known, params = known_laws(), read_params()
    unknown = [name for name in arguments.names if name not in known]
    if unknown:
        raise ValueError(f"LAW: {unknown[0]!r} is not one of {', '.join(known)}")
    store = RunStore(Path.cwd(), storage_uri())
    asked = arguments.names or known
    plans = {name: specs for name, specs in plan_laws(params, TOKENS).items() if name in asked}
    off = [name for name in arguments.names if name not in plans]
    if arguments.run and off:
        raise ValueError(f"LAW: {off[0]!r} is off; laws.{off[0]} in params.yaml turns it on")
    chosen = [*plans, *(name for name in asked if name not in plans)]
    failed = _run(params, plans, store) if arguments.run else {}
    print(_listed(chosen, plans, store))
    return tell_failed(failed, [spec for specs in plans.values() for spec in specs])


def _run(params, plans: dict, store) -> dict[str, str]:
    """Trains, judges and draws the laws of `plans`; run_id -> reason of the runs that failed, whose laws stay as they
    were."""
    from pipeline.driver import train_runs
    from pipeline.reporting.inputs import read_tables
    from pipeline.reporting.law_parts import draw_law, law_part
    from pipeline.reporting.report import files_of, write_files
    from pipeline.results import collect_laws, judge_law, read_findings, waived, write_judgements

    specs = [spec for runs in plans.values() for spec in runs]
    failed = train_runs(specs, store, params.train, TOKENS)
    whole = [name for name, runs in plans.items() if not any(spec.run_id in failed for spec in runs)]
    collect_laws([spec for name in whole for spec in plans[name]], store, RESULTS, waived(specs, store.root))
    write_judgements({name: judge_law(params, name, RESULTS) for name in whole}, RESULTS)
    judged = read_findings(RESULTS)
    for name in whole:
        figures = draw_law(name, judged[name]["summary"], read_tables(RESULTS / "fit" / name), RESULTS)
        write_files(REPORTS, files_of(figures, [law_part(name, judged[name], figures).findings]))
    return failed


def _listed(chosen: list[str], plans: dict, store) -> str:
    """One line a law: verdict, claims that hold, runs, seconds of one core, what its headline says."""
    from pipeline.execution.throughput import Throughput
    from pipeline.experiments.verdict import claimed, overall
    from pipeline.results import read_findings

    judged = read_findings(RESULTS)
    lines = [f"{'law':<22}{'verdict':<14}{'claims':>7}  {'runs':>9}  {'core time':>11}  headline"]
    for name in chosen:
        if name not in plans:
            lines.append(f"{name:<22}{'off':<14}")
            continue
        findings = judged.get(name, {}).get("findings", [])
        claims = claimed(findings)
        done = sum(store.settled(spec.run_id) for spec in plans[name])
        expected = Throughput(plans[name], store)
        timed = [(store.telemetry(spec.run_id) or {}).get("seconds") for spec in plans[name]]
        seconds = sum(
            expected.seconds(spec) if took is None else took for spec, took in zip(plans[name], timed, strict=True)
        )
        verdict = overall(findings).replace("_", " ") if findings else "not tested"
        said = findings[0]["statement"] if findings else ""
        held = f"{claims.count('holds')}/{len(claims)}" if findings else ""
        runs = f"{done}/{len(plans[name])}"
        lines.append(f"{name:<22}{verdict:<14}{held:>7}  {runs:>9}  {duration(seconds):>11}  {said}")
    return "\n".join(lines)
