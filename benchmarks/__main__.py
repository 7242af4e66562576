"""All benchmarks, or those that are named: python -m benchmarks [PART ...].

Every part runs in a process of its own and is merged into benchmarks/results.json, so one can be run again without
losing the others: the keys of every part lie at the top of the file, and under `parts` all that it measured, with date,
machine and versions. The table in benchmarks/README.md is made from that file. Exit code 1 when a part fails or a key
that was measured misses its target.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path

from benchmarks.stopwatch import free_environment, machine_facts, rounded

RESULTS = Path(__file__).parent / "results.json"
PAGE = Path(__file__).parent / "README.md"
BEGIN, END = "<!-- results -->", "<!-- end of results -->"
PACKAGES = ("torch", "numpy", "scipy", "ray", "polars", "dvc", "mlflow")


@dataclass(frozen=True)
class Key:
    """A number that is watched. `least` and `most` bound it where there is a target."""

    name: str
    meaning: str
    least: float | None = None
    most: float | None = None

    def met(self, value: float | None) -> bool:
        """Whether `value` keeps the target."""
        if self.least is None and self.most is None:
            return True
        return value is not None and (self.least or value) <= value <= (self.most or value)

    @property
    def target(self) -> str:
        """The target in words."""
        bounds = [f"≥ {self.least:,g}"] if self.least is not None else []
        return ", ".join(bounds + ([f"≤ {self.most:,g}"] if self.most is not None else [])) or "none"


@dataclass(frozen=True)
class Part:
    """One benchmark: `function` of `benchmarks.<module>` measures and returns its keys and more, as plain data."""

    module: str
    function: str
    keys: tuple[Key, ...]
    lasts: str


PARTS = {
    "fits": Part(
        "fit_speed",
        "measure_fits",
        (
            Key("bootstrap_over_bfgs", "CPU time of 4,000 bootstrap fits: BFGS with autograd over ours", least=100),
            Key("bootstrap_over_slsqp", "the same: SLSQP with a gradient by hand over ours", least=8),
            Key("point_over_grid", "CPU time of a point fit: a grid of 4,500 starts over ours", least=1000),
        ),
        "7 minutes",
    ),
    "training": Part(
        "training",
        "measure_training",
        (Key("gemm_fraction", "model FLOP/s over the matrix product's, least over N ≥ 100,000", least=0.6),),
        "4 minutes",
    ),
    "study": Part(
        "study",
        "measure_study",
        (Key("study_over_sequential", "time of the sequential baseline over that of the train stage", least=3),),
        "10 minutes",
    ),
    "sequential": Part(
        "sequential_time",
        "measure_check",
        (Key("sequential_check", "points trained in full over the sample's time for them", least=0.85, most=1.15),),
        "10 minutes",
    ),
    "orchestration": Part(
        "orchestration",
        "measure_orchestration",
        (
            Key("orchestration_runs_per_second", "10,000 trivial runs through executor, Ray and store", least=100),
            Key("orchestration_driver_mib", "memory of the driver, MiB", most=1024),
        ),
        "2 minutes",
    ),
    "increment": Part(
        "increment",
        "measure_increment",
        (
            Key("increment_overhead_seconds", "next token count: seconds beside its training", most=15),
            Key("noop_over_dvc_status", "unchanged study: seconds beyond `dvc status`", most=5),
        ),
        "10 minutes",
    ),
    "growth": Part(
        "growth",
        "measure_growth",
        (Key("growth_exponent", "greatest power with which a time grows with its size", most=1.1),),
        "half an hour",
    ),
    "multiplier": Part(
        "multiplier",
        "measure_multiplier",
        (
            Key("compute_multiplier", "FLOPs of the tuned baseline recipe over the default's at equal loss", least=2.5),
            Key("compute_multiplier_with_tree", "the same over the whole grid, whose points share trunks by default"),
        ),
        "an hour",
    ),
}


def main() -> int:
    """Exit code: 0, or 1 when a part fails or misses a target."""
    lines = [f"  {name:<15}{part.lasts}" for name, part in PARTS.items()]
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__.splitlines()[0],
        epilog="\n".join(["parts, and about how long they take on two cores:", *lines]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help="none: all of them")
    parser.add_argument("--table", action="store_true", help="only write the table of README.md again")
    asked = parser.parse_args()
    unknown = [name for name in asked.parts if name not in PARTS]
    if unknown:
        parser.error(f"PART: {unknown[0]!r} is none of {', '.join(PARTS)}")
    if asked.table:
        write_table(json.loads(RESULTS.read_text(encoding="utf-8")))
        return 0
    if len(asked.parts) == 1:
        return run_part(asked.parts[0])
    codes = {}
    for name in asked.parts or PARTS:
        print(f"\n{name}: about {PARTS[name].lasts}", flush=True)
        command = [sys.executable, "-m", "benchmarks", name]
        codes[name] = subprocess.run(command, env=free_environment()).returncode
    failed = [name for name, code in codes.items() if code]
    print(f"\nfailed, or below target: {', '.join(failed)}" if failed else "\nall targets met")
    return 1 if failed else 0


def run_part(name: str) -> int:
    """Runs one part, merges what it measured into RESULTS and the page; 1 for a missed target or a failed check."""
    part = PARTS[name]
    measured = rounded(getattr(import_module(f"benchmarks.{part.module}"), part.function)())
    if name == "growth":
        measured["growth_exponent"] = max(row["exponent"] for row in measured.values())
    missing = [key.name for key in part.keys if key.name not in measured]
    if missing:
        raise ValueError(f"benchmarks.{part.module}: {missing[0]}: not among {sorted(measured)}")
    results = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    parts = results.get("parts", {})
    parts[name] = {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "machine": machine_facts(*PACKAGES),
        "measured": measured,
    }
    write_results(parts)
    for key in part.keys:
        met = "met" if key.met(measured[key.name]) else "MISSED"
        print(f"{key.name}: {measured[key.name]} (target {key.target}: {met})")
    broken = [text for text, passed in measured.get("checks", {}).items() if not passed]
    for text in broken:
        print(f"check failed: {text}")
    return 0 if not broken and all(key.met(measured[key.name]) for key in part.keys) else 1


def write_results(parts: dict[str, dict]) -> None:
    """Writes RESULTS, with the keys of all `parts` at its top, then the parts in the order of PARTS; and the table."""
    ordered = {name: parts[name] for name in PARTS if name in parts}
    keys = {key.name: ordered[name]["measured"][key.name] for name in ordered for key in PARTS[name].keys}
    results = keys | {"parts": ordered}
    RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    write_table(results)


def write_table(results: dict) -> None:
    """Puts the table of all keys and, where they were measured, of sizes and growth between the page's markers.

    Raises ValueError when the page has no markers.
    """
    text = PAGE.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{PAGE}: {BEGIN} ... {END}: missing")
    lines = ["| key | what it says | value | target | part, date, machine |", "|---|---|---|---|---|"]
    for name, part in PARTS.items():
        held = results["parts"].get(name)
        for key in part.keys:
            value = held["measured"][key.name] if held else None
            shown = "not measured" if value is None else f"{value:,.4g}"
            met = "" if held is None or key.target == "none" else ", met" if key.met(value) else ", missed"
            where = f"{held['date']}, {held['machine']['cores']} cores, {held['machine']['processor']}" if held else ""
            lines.append(f"| `{key.name}` | {key.meaning} | {shown} | {key.target}{met} | {name} {where} |")
    sizes = results["parts"].get("training", {}).get("measured", {}).get("sizes", [])
    if sizes:
        header = ["width", "N", "tokens/s", "model GFLOP/s", "of the product", "with Newton-Schulz"]
        lines += ["", f"| {' | '.join(header)} |", "|---" * len(header) + "|"]
    for row in sizes:
        speed = f"{row['tokens_per_second']:,.0f} | {row['model_flops_per_second'] / 1e9:,.1f}"
        parts = f"{row['fraction_of_product']:.1%} | {row['with_newton_schulz']:.1%}"
        lines.append(f"| {row['width']} | {row['N_non_embedding']:,} | {speed} | {parts} |")
    grown = results["parts"].get("growth", {}).get("measured", {})
    grown = {what: row for what, row in grown.items() if isinstance(row, dict) and "exponent" in row}
    if grown:
        lines += ["", "| what grows | sizes | seconds | exponent | most memory, MiB |", "|---|---|---|---|---|"]
    for what, row in grown.items():
        shown = ["; ".join(f"{x:,.4g}" for x in row[name]) for name in ("sizes", "seconds")]
        lines.append(f"| {what} | {shown[0]} | {shown[1]} | {row['exponent']:.2f} | {max(row['peak_mib']):,.0f} |")
    PAGE.write_text(f"{before}{BEGIN}\n" + "\n".join(lines) + f"\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
