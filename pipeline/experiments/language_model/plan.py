"""The runs of the language-model study: a grid of sizes and token counts as a tree of trunks and cooldowns."""

from __future__ import annotations

from dataclasses import asdict
from functools import cache, lru_cache
from itertools import product
from traceback import extract_tb

from pipeline.collector import without_collector
from pipeline.experiments.experiment import LANGUAGE_MODEL, CorpusFacts, step
from pipeline.models.size import Counted, Size
from pipeline.params import IsoFlop, LanguageModel, Model, SizesByTokens
from pipeline.params.section import LARGEST
from pipeline.planning.code import ROOT, code_digest, own_files, own_modules
from pipeline.planning.run_spec import RunSpec
from pipeline.training.schedule import Course, branch, step_boundary

NUMERIC_MODULES = (
    "pipeline.corpus.batches",
    "pipeline.experiments.language_model.count",
    "pipeline.experiments.language_model.run",
    "pipeline.models.loss",
    "pipeline.models.own",
    "pipeline.models.parametrization",
    "pipeline.models.transformer",
    "pipeline.training.captured",
    "pipeline.training.compiled.attention",
    "pipeline.training.compiled.engine",
    "pipeline.training.compiled.kernels",
    "pipeline.training.compiled.network",
    "pipeline.training.compiled.optimizer",
    "pipeline.training.device",
    "pipeline.training.engine",
    "pipeline.training.optimizer",
    "pipeline.training.plain",
    "pipeline.training.schedule",
    "pipeline.training.sharded",
    "pipeline.training.trainer",
    "pipeline.training.world",
)

_boundary, _branch = cache(step_boundary), cache(branch)
"""The same for all sizes, and found by walking through the steps."""


@without_collector()
def plan(settings: LanguageModel, corpus: CorpusFacts) -> list[RunSpec]:
    """Every run of the grid, its replicates and the points beside it, parents before children, each once.

    Raises ValueError when a point needs more tokens than the corpus holds and `allow_repeats` is off.
    """
    build = settings.model.build
    code = code_digest(NUMERIC_MODULES + (own_modules(build.partition(":")[0]) if build else ()))
    specs: dict[str, RunSpec] = {}
    for (width, seed), ends in _trees(settings, corpus.vocab_size).items():
        size = size_of(settings.model, corpus.vocab_size, width)
        for place, D in ends:
            _check(settings, corpus, place, D)
        pieces = _scratch(settings, ends) if settings.schedule.kind == "cosine" else _tree(settings, ends)
        common, by_place = _numbers(settings, size), {}
        for kind, course, start, source in pieces:
            before = by_place.get(source) if source else None
            spec = RunSpec(
                experiment="language_model",
                kind=kind,
                settings=common | _of_course(settings, course),
                seed=seed,
                data_digest=corpus.digest,
                code_digest=code,
                parent_id=before.run_id if before and kind == "cooldown" else None,
                resumes_id=before.run_id if before and kind == "trunk" else None,
                label=f"width {width} {kind} to {course.end:,} tokens" + (f" seed {seed}" if seed else ""),
                flops=float(size.flops_per_token * (course.end - start)),
            )
            by_place[kind, course.end] = spec
            specs.setdefault(spec.run_id, spec)
    return list(specs.values())


def describe(spec: RunSpec, grid_seed: int) -> dict:
    """The columns of one run that do not come from training it: sizes, tokens and FLOPs (see planning/table.py)."""
    size, model, D = size_from(spec.settings), spec.settings["model"], spec.settings["course"]["end"]
    return {
        "role": "grid" if spec.seed == grid_seed else "replicate",
        "recipe": "cosine" if spec.kind == "scratch" else "wsd",
        "width": size.width,
        "depth": size.depth,
        "head_size": model["head_size"],
        "context": size.context,
        "N_total": size.N_total,
        "N_non_embedding": size.N_non_embedding,
        "N_with_head": size.N_with_head,
        "D": D,
        "C": float(size.flops_per_token * D),
        "C_6ND": 6.0 * size.N_non_embedding * D,
        "start_tokens": D - round(spec.flops / size.flops_per_token),
    }


def size_from(numbers: dict) -> Size | Counted:
    """The size of the model that the settings of a spec describe."""
    if "size" in numbers:
        return Counted(**numbers["size"])
    return transformer_size(numbers)


def transformer_size(numbers: dict) -> Size:
    """The size of the transformer that has the shape in the settings of a spec."""
    model = numbers["model"]
    return Size(numbers["vocab_size"], numbers["width"], model["depth"], model["context"], model["mlp_ratio"])


@lru_cache
def size_of(model: Model, vocab_size: int, width: int) -> Size | Counted:
    """The size of the study's model at `width`."""
    if model.build:
        return _counted(model, vocab_size, width)
    size = Size(vocab_size, width, model.depth, model.context, model.mlp_ratio)
    if size.N_total > LARGEST:
        raise ValueError(
            f"params.yaml: language_model.model: {size.N_total:.3g} parameters at width {width} do not fit into 64 bits"
        )
    return size


def _counted(model: Model, vocab_size: int, width: int) -> Counted:
    """The size of a model of the user's own. ValueError naming it, and where in its files, when it raises."""
    try:
        return step(LANGUAGE_MODEL, "count")(model, vocab_size, width)
    except Exception as error:
        if str(error).startswith("language_model.model.build: "):
            raise ValueError(f"params.yaml: {error}") from error
        files = {str(ROOT / file): file for file in own_files(model.build.partition(":")[0])}
        frames = [frame for frame in extract_tb(error.__traceback__) if frame.filename in files]
        place = f" ({files[frames[-1].filename]}:{frames[-1].lineno})" if frames else ""
        said = f"{type(error).__name__}: {' '.join(str(error).split())}{place}"
        raise ValueError(f"params.yaml: language_model.model.build: {model.build}: {said}") from error


def levels(settings: LanguageModel, vocab_size: int, width: int) -> list[tuple[str, int]]:
    """(field and value of params.yaml, D in tokens) of every point of the grid at `width`, D ascending."""
    grid, size = settings.grid, size_of(settings.model, vocab_size, width)
    if isinstance(grid, SizesByTokens):
        return [(f"grid.tokens: {D}", D) for D in sorted(set(grid.tokens))]
    if isinstance(grid, IsoFlop):
        return [(f"grid.flops: {C:g}", round(C / size.flops_per_token)) for C in sorted(set(grid.flops))]
    return [(f"grid.ratios: {r:g}", round(r * size.N_non_embedding)) for r in sorted(set(grid.ratios))]


def _trees(settings: LanguageModel, vocab_size: int) -> dict[tuple[int, int], list[tuple[str, int]]]:
    """(width, seed) -> (field and value of params.yaml, D in tokens) of its points, D ascending and each once."""
    trees: dict[tuple[int, int], dict[int, str]] = {}
    again = product(settings.replicates.widths, settings.replicates.seeds)
    for width, seed in [(width, settings.seed) for width in settings.grid.widths] + list(again):
        ends = levels(settings, vocab_size, width)
        trees[width, seed] = {D: place for place, D in ends if seed == settings.seed or _repeated(settings, D)}
    for number, point in enumerate(settings.grid.points):
        seed = settings.seed if point.seed is None else point.seed
        place = f"grid.points.{number}.tokens: {point.tokens}"
        trees.setdefault((point.width, seed), {}).setdefault(point.tokens, place)
    return {tree: [(ends[D], D) for D in sorted(ends)] for tree, ends in trees.items()}


def _repeated(settings: LanguageModel, D: int) -> bool:
    return settings.replicates.max_tokens is None or settings.replicates.max_tokens >= D


def _check(settings: LanguageModel, corpus: CorpusFacts, place: str, D: int) -> None:
    held = (corpus.train_tokens - 1) // settings.model.context * settings.model.context
    least = settings.schedule.warmup_tokens + settings.batch.tokens
    if held < D and not settings.allow_repeats:
        raise ValueError(
            f"params.yaml: language_model.{place}: D = {D:,} tokens are more than the {held:,} of the training split;"
            " set language_model.allow_repeats to train on them more than once"
        )
    if least >= D:
        raise ValueError(
            f"params.yaml: language_model.{place}: D = {D:,} tokens end within the warm-up and one batch ({least:,})"
        )


def _scratch(settings: LanguageModel, ends: list[tuple[str, int]]) -> list[tuple]:
    pieces = []
    for _, D in ends:
        end = _boundary(settings.batch, settings.model.context, D)
        pieces.append(("scratch", Course("cosine", settings.schedule.warmup_tokens, end, end), 0, None))
    return pieces


def _tree(settings: LanguageModel, ends: list[tuple[str, int]]) -> list[tuple]:
    """(kind, course, start, source) of each piece: trunk segments between forks, and a cooldown from each fork."""
    warmup, pieces, last = settings.schedule.warmup_tokens, [], 0
    for _, D in ends:
        fork, end = _branch(settings.batch, settings.model.context, D, settings.schedule.cooldown_fraction)
        trunk = Course("constant", warmup, fork, fork)
        if fork > last:
            pieces.append(("trunk", trunk, last, ("trunk", last) if last else None))
            last = fork
        pieces.append(("cooldown", Course("linear", warmup, fork, end), fork, ("trunk", fork)))
    return pieces


def _numbers(settings: LanguageModel, size: Size | Counted) -> dict:
    """What all runs of one size have in common."""
    numbers = {
        "vocab_size": size.vocab_size,
        "width": size.width,
        "model": settings.model.model_dump(exclude_none=True),
        "optimizer": settings.optimizer.model_dump(),
        "batch": settings.batch.model_dump(),
    }
    return numbers | ({"size": asdict(size)} if isinstance(size, Counted) else {})


def _of_course(settings: LanguageModel, course: Course) -> dict:
    evaluated = {} if course.shape == "constant" else {"evaluation": settings.evaluation.model_dump()}
    return {"course": dict(vars(course))} | evaluated
