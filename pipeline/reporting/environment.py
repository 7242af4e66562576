"""The templates of page/, and what they may do to a value; everything else is escaped."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from pipeline.reporting.tables import TABLE_KINDS


def environment(with_files: bool = True) -> Environment:
    """The templates; `with_files` links every figure and table to its files beside the page."""
    templates = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters: Mapping[str, Any] = {"drawing": lambda figure: Markup(figure.svg), "formula": Markup, "sources": _linked}
    templates.filters.update(filters)
    templates.globals["table_kinds"] = TABLE_KINDS if with_files else ()
    return templates


def _linked(text: str) -> Markup:
    """The text, escaped, with each arXiv id a link that is followed only when clicked."""
    return Markup(
        re.sub(r"arXiv (\d{4}\.\d{4,5})", r'<a href="https://arxiv.org/abs/\1">arXiv \1</a>', str(escape(text)))
    )
