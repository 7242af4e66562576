"""The next scales of a study: its own grid, continued by doublings of width and of tokens."""

from __future__ import annotations

from collections.abc import Container, Iterable

from pipeline.experiments.experiment import CorpusFacts
from pipeline.experiments.language_model.plan import levels, plan
from pipeline.params import LanguageModel, Point, Replicates
from pipeline.planning.run_spec import RunSpec

DOUBLINGS = (2, 4)
"""Times the largest width, and times the largest token count of a width."""


def ladder(settings: LanguageModel, corpus: CorpusFacts) -> list[Point]:
    """Every width of the grid and of its continuation at every token count of the grid and of its continuation, with
    the study's own seed; without those that the corpus or the schedule cannot carry."""
    widths = sorted(set(settings.grid.widths))
    widths += [factor * widths[-1] for factor in DOUBLINGS]
    found = []
    for width in widths:
        tokens = [D for _, D in levels(settings, corpus.vocab_size, width)]
        tokens += [factor * tokens[-1] for factor in DOUBLINGS]
        found += [Point(width=width, tokens=D, seed=settings.seed) for D in tokens]
    return [point for point in found if _carried(settings, corpus, point)]


def measured_run(settings: LanguageModel, corpus: CorpusFacts, point: Point) -> RunSpec:
    """The run that gives the loss of one point, by the recipe of the study. Raises ValueError as `plan` does."""
    return plan(_of_grid(settings, [], [point]), corpus)[-1]


def with_points(settings: LanguageModel, points: Iterable[Point]) -> LanguageModel:
    """The study with more points beside its grid."""
    grid = settings.grid
    return settings.model_copy(update={"grid": grid.model_copy(update={"points": [*grid.points, *points]})})


def flops_for(settings: LanguageModel, corpus: CorpusFacts, point: Point, known: Container[str]) -> float:
    """Training FLOPs of what `point` adds to the study, whose planned runs are `known`: a trunk that is there is
    continued, not trained again."""
    widths = [width for width in settings.grid.widths if width == point.width]
    held = [one for one in settings.grid.points if one.width == point.width]
    tree = plan(_of_grid(settings, widths, [*held, point]), corpus)
    return sum(spec.flops for spec in tree if spec.run_id not in known)


def _of_grid(settings: LanguageModel, widths: list[int], points: list[Point]) -> LanguageModel:
    """The study with another grid and no replicates."""
    grid = settings.grid.model_copy(update={"widths": widths, "points": points})
    return settings.model_copy(update={"grid": grid, "replicates": Replicates()})


def _carried(settings: LanguageModel, corpus: CorpusFacts, point: Point) -> bool:
    try:
        measured_run(settings, corpus, point)
    except ValueError:
        return False
    return True
