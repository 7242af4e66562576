"""params.yaml, read and validated."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError, create_model
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pipeline.params.corpus import Prepare
from pipeline.params.language_model import LanguageModel
from pipeline.params.section import Section
from pipeline.params.stages import Collect, Fit, Publish, Report, Study, Train

LAWS = "pipeline.experiments.laws"
"""The package of the laws of learning mechanics: class Settings of module <name> reads the section `laws.<name>`."""


class Off(Section):
    """The section of a law that is off and needs no dials."""

    on: bool


class Laws(Section):
    """The laws of learning mechanics to be tested beside the scaling study: one field a law of params.yaml."""

    @property
    def tested(self) -> dict[str, Section]:
        """The settings of every law that is on, by name, in the order of params.yaml."""
        return {name: getattr(self, name) for name in type(self).model_fields if getattr(self, name).on}


class Params(Section):
    """The whole of params.yaml."""

    study: Study
    prepare: Prepare
    language_model: LanguageModel
    laws: Laws = Laws()
    train: Train
    collect: Collect
    fit: Fit
    report: Report
    publish: Publish = Publish()


def read_params(path: Path = Path("params.yaml")) -> Params:
    """The validated parameters of the study in `path`.

    Raises ValueError with one line a fault: file, field, value.
    """
    return validated(path, read_tree(path, YAML(typ="safe")))


def read_section(name: str, path: Path = Path("params.yaml")) -> Any:
    """The section `name` of the parameters in `path`, validated alone: for the whole of it the laws' modules are
    loaded, which takes half a second.

    Raises ValueError as `read_params` does.
    """
    field = Params.model_fields[name]
    alone = create_model("Part", **{name: (field.annotation, field)})
    return getattr(_checked(path, alone, read_tree(path, YAML(typ="safe"))), name)


def read_tree(path: Path, yaml: YAML) -> Any:
    """The content of the file `path` as `yaml` gives it. Raises ValueError where there is none, or no YAML."""
    try:
        return yaml.load(path)
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file") from None
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f" line {mark.line + 1}" if mark else ""
        raise ValueError(f"{path}:{place} not YAML: {getattr(error, 'problem', error)}") from None


def validated(path: Path, tree: object) -> Params:
    """`tree` as parameters. Raises ValueError with one line a fault: file `path`, field, value."""
    return _checked(path, _with_laws(path, tree), tree)


def _checked(path: Path, model: type[BaseModel], tree: object) -> Any:
    try:
        return model.model_validate(tree)
    except ValidationError as error:
        lines = dict.fromkeys(_fault(path, fault, tree) for fault in _telling(error.errors()))
        raise ValueError("\n".join(lines)) from None


def _telling(faults: list[dict]) -> list[dict]:
    """Those of `faults` that tell what is wrong: a misspelt key is also a missing one, and a law that was to be turned
    off lacks its dials."""
    unknown = [fault for fault in faults if fault["type"] == "extra_forbidden"]
    switches = {fault["loc"][:-1] for fault in faults if fault["loc"][-1:] == ("on",)}
    return unknown or [fault for fault in faults if fault["type"] != "missing" or fault["loc"][:-1] not in switches]


def _with_laws(path: Path, tree: object) -> type[Params]:
    """Params with a field for each law that `tree` names."""
    named = tree.get("laws") if isinstance(tree, dict) else None
    if not isinstance(named, dict):
        return Params
    for name in named:
        law = isinstance(name, str) and name.isidentifier() and not name.startswith("_")
        if not law or find_spec(f"{LAWS}.{name}") is None:
            raise ValueError(f"{path}: laws.{name}: no such law (value {named[name]!r}); `study laws` lists them")
    return _params_of(tuple((name, dials == {"on": False}) for name, dials in named.items()))


@lru_cache
def _params_of(laws: tuple[tuple[str, bool], ...]) -> type[Params]:
    """The class of parameters with these laws, each with whether it is off and names no dials; the same class each
    time, so that equal parameters are equal."""
    fields = {name: (Off if off else import_module(f"{LAWS}.{name}").Settings, ...) for name, off in laws}
    return create_model("Params", __base__=Params, laws=(create_model("Laws", __base__=Laws, **fields), ...))


def _fault(path: Path, fault: dict, tree: object) -> str:
    short = fault["type"] == "missing" and isinstance(fault["loc"][-1], int)  # an entry at the end of a list
    place = ".".join(map(str, _written(fault["loc"][:-1] if short else fault["loc"], tree))) or "(whole file)"
    if short:
        return f"{path}: {place}: too few entries (value {fault['input']!r})"
    if fault["type"] == "extra_forbidden":
        return f"{path}: {place}: unknown key (value {fault['input']!r})"
    if fault["type"] == "missing":
        return f"{path}: {place}: missing"
    message = fault["msg"].removeprefix("Value error, ")
    if fault["type"] == "value_error":
        return f"{path}: {place}.{message}"
    return f"{path}: {place}: {message} (value {fault['input']!r})"


def _written(location: tuple[str | int, ...], tree: object) -> Iterator[str | int]:
    """The keys and places of `location` that lead to a fault in `tree`: pydantic puts the kind of a section that has
    several (a grid, a source, a tokenizer) between them."""
    for number, part in enumerate(location, 1):
        if isinstance(tree, dict):
            if part == tree.get("kind") and (number < len(location) or part not in tree):
                continue
            tree = tree.get(part)
        elif isinstance(tree, list) and isinstance(part, int):
            tree = tree[part]
        yield part
