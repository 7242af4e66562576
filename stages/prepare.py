"""Stage `prepare`: the text sources of params.yaml become token files in data/tokens."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from pipeline.corpus.prepare import prepare_corpus
from pipeline.params import read_params
from pipeline.stage import run_stage
from pipeline.tracking import mirror
from pipeline.unwatched import sources_elsewhere

OUT = Path("data/tokens")


def main() -> None:
    """Writes data/tokens and prints what it holds."""
    settings = read_params().prepare
    columns = (TextColumn("{task.description:<22}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as bar:
        tasks: dict[str, int] = {}

        def show(step: str, done: int, total: int) -> None:
            if step not in tasks:
                tasks[step] = bar.add_task(step, total=total)
            bar.update(tasks[step], completed=done)

        manifest = prepare_corpus(settings, OUT, show)
    for split in ("train", "validation"):
        counts = manifest[split]
        print(f"{split}: {counts['tokens']:,} tokens, {counts['bytes']:,} bytes, {counts['documents']:,} documents")
    print(f"dropped: {manifest['duplicates']} duplicates, {manifest['empty']} empty, {manifest['invalid']} invalid")
    for note in sources_elsewhere(settings.sources):
        print(note)
    mirror("prepare")


if __name__ == "__main__":
    raise SystemExit(run_stage(main))
