"""The identity of code: which part of the repository a run's numbers come from, as a hash of its syntax trees."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WITHOUT_NUMBERS = (
    "pipeline.allocator",
    "pipeline.experiments.experiment",
    "pipeline.experiments.law",
    "pipeline.params",
    "pipeline.planning",
    "pipeline.training.peak",
)
"""Modules that only carry values from here to there."""


def code_digest(modules: Iterable[str], root: Path = ROOT) -> str:
    """Hexadecimal sha256 of the syntax trees of `modules` (dotted names under `root`), docstrings left out.

    Comments, layout and docstrings do not change it; any other edit does.
    """
    total = hashlib.sha256()
    for name in sorted(modules):
        total.update(f"{name}\0{_dump(_path(root, name).read_text(encoding='utf-8'))}\0".encode())
    return total.hexdigest()


def own_modules(module: str, root: Path = ROOT) -> tuple[str, ...]:
    """`module`, which is a user's own, and all modules of the project outside of the pipeline that it imports, sorted.

    Raises ValueError when there is no such file below `root`.
    """
    if not _path(root, module).exists():
        file = f"{module.replace('.', '/')}.py"
        raise ValueError(f"params.yaml: language_model.model.build: {module}: the project has no file {file}")
    waiting, found = [module], set()
    while waiting:
        name = waiting.pop()
        if name in found or name.split(".")[0] == "pipeline" or not _path(root, name).exists():
            continue
        found.add(name)
        try:
            tree = _tree(root, name)
        except SyntaxError as error:
            place = f"{_path(root, name).relative_to(root)}:{error.lineno}: {error.msg}"
            raise ValueError(f"params.yaml: language_model.model.build: {place}") from None
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                waiting += [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                source = (
                    ".".join([*name.split(".")[: -node.level], *filter(None, [node.module])])
                    if node.level
                    else node.module
                )
                waiting += [source, *(f"{source}.{alias.name}" for alias in node.names)]
    return tuple(sorted(found))


def own_files(module: str, root: Path = ROOT) -> list[str]:
    """The files of `own_modules`, relative to `root`."""
    return [_path(root, name).relative_to(root).as_posix() for name in own_modules(module, root)]


@lru_cache
def reached_digest(module: str, function: str, root: Path = ROOT) -> str:
    """Hexadecimal sha256 of every definition of this repository that `function` of `module` reaches by name.

    So a file may hold what computes a result beside what judges and draws it, and only an edit of the former changes
    the digest. Names are followed through `from pipeline... import`; comments, docstrings and annotations of arguments
    do not count, nor do the modules of WITHOUT_NUMBERS.
    """
    waiting, seen = [(module, function)], {}
    while waiting:
        place = waiting.pop()
        if place in seen or any(f"{place[0]}.".startswith(f"{name}.") for name in WITHOUT_NUMBERS):
            continue
        table = _definitions(root, place[0])
        node = table.get(place[1])
        if node is None:
            raise ValueError(f"{place[0]}: {place[1]} is not defined there")
        seen[place] = ast.dump(node)
        waiting += list(_reached(root, place[0], table, node))
    total = hashlib.sha256()
    for (name, what), text in sorted(seen.items()):
        total.update(f"{name}\0{what}\0{text}\0".encode())
    return total.hexdigest()


def _reached(root: Path, module: str, table: dict[str, ast.AST], node: ast.AST) -> Iterator[tuple[str, str]]:
    if isinstance(node, ast.ImportFrom):
        source = node.module or ""
        for alias in node.names:
            if not source.startswith("pipeline"):
                continue
            if _path(root, f"{source}.{alias.name}").exists():
                yield from ((f"{source}.{alias.name}", name) for name in _definitions(root, f"{source}.{alias.name}"))
            else:
                yield source, alias.name
        return
    for inner in ast.walk(node):
        if isinstance(inner, ast.Name) and inner.id in table:
            yield module, inner.id
        if isinstance(inner, ast.ImportFrom):
            yield from _reached(root, module, table, inner)


@lru_cache
def _definitions(root: Path, module: str) -> dict[str, ast.AST]:
    """Name -> node of everything defined at the top of `module`; of an import, the part that gives that name."""
    table: dict[str, ast.AST] = {}
    for node in _tree(root, module).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            table[node.name] = node
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                table[alias.asname or alias.name] = ast.ImportFrom(node.module, [alias], node.level)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                table |= {name.id: node for name in ast.walk(target) if isinstance(name, ast.Name)}
    for node in table.values():
        _without_annotations(node)
    return table


def _without_annotations(node: ast.AST) -> None:
    for inner in ast.walk(node):
        if isinstance(inner, ast.arg):
            inner.annotation = None
        if isinstance(inner, ast.FunctionDef):
            inner.returns = None


def _path(root: Path, module: str) -> Path:
    path = root / (module.replace(".", "/") + ".py")
    return path if path.exists() else root / module.replace(".", "/") / "__init__.py"


def _tree(root: Path, module: str) -> ast.Module:
    return _parsed(_path(root, module).read_text(encoding="utf-8"))


@lru_cache
def _dump(source: str) -> str:
    return ast.dump(_parsed(source))


def _parsed(source: str) -> ast.Module:
    """The syntax tree of `source` without its docstrings."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return tree
