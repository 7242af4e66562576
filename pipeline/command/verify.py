"""Retrain a published study, all of it or a sample, and say run by run whether it reproduces."""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path
from random import Random, SystemRandom

SAMPLE = 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options of `study verify`."""
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--sample", metavar="K", help=f"K runs of every experiment, drawn at random; default {SAMPLE}")
    which.add_argument("--all", action="store_true", help="every run")
    which.add_argument("--runs", nargs="+", metavar="RUN_ID", help="these; the start of an id is enough")
    parser.add_argument("--seed", metavar="S", help="of the sample; default: a new one each time, which is printed")


def command(arguments: argparse.Namespace) -> int:
    """1 when a run does not reproduce, else 0. Raises ValueError where nothing is published, or for an unknown run."""
    from pipeline.command.options import whole
    from pipeline.command.quarantine import named
    from pipeline.params import read_params
    from pipeline.reproduction.compare import VERDICTS
    from pipeline.reproduction.retrain import open_study, reproduce
    from pipeline.storage import storage_uri

    number = whole("--sample", SAMPLE if arguments.sample is None else arguments.sample, 1)
    seed = whole("--seed", SystemRandom().randrange(10**6) if arguments.seed is None else arguments.seed, 0)
    with open_study(Path.cwd(), read_params()) as (study, place):
        known = study.settled
        if arguments.runs:
            chosen, how = named(arguments.runs, set(known)), "named"
        elif arguments.all:
            chosen, how = known, "all"
        else:
            chosen, how = study.sample(number, Random(seed)), f"{number} of every experiment, --seed {seed}"
        more = len(study.with_ancestors(chosen)) - sum(run_id in study.specs for run_id in chosen)
        print(
            f"verify: {len(chosen)} of {len(known)} published runs ({how}) and {more} that they start from", flush=True
        )
        found = reproduce(study, chosen, place, storage_uri())
    labels = {run_id: spec.label or f"{spec.experiment} {spec.kind}" for run_id, spec in study.specs.items()}
    found = sorted(found, key=lambda one: (VERDICTS.index(one.verdict), labels.get(one.run_id, ""), one.run_id))
    for one in found:
        label = labels.get(one.run_id, "")
        print(f"  {one.run_id}  {one.verdict:<18}  {label}{': ' if label and one.detail else ''}{one.detail}")
    counts = Counter(one.verdict for one in found)
    print(f"{len(found)} runs: " + ", ".join(f"{counts[verdict]} {verdict}" for verdict in VERDICTS))
    return 1 if counts[VERDICTS[-1]] else 0
