"""What a published page says: its tables as values, its words, and what it was made from."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path


class Tables(HTMLParser):
    """Collects every table of a page by the id of its section: rows of (text, values of its <data> elements)."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tables: dict[str, list[list[tuple[str, list[float]]]]] = {}
        self.section = ""
        self.cell: list[str] | None = None
        self.values: list[float] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        facts = dict(attributes)
        if tag == "section" and facts.get("id"):
            self.section = str(facts["id"])
        elif tag == "tr":
            self.tables.setdefault(self.section, []).append([])
        elif tag in ("td", "th"):
            self.cell, self.values = [], []
        elif tag == "data":
            self.values.append(float(str(facts["value"])))

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th") and self.cell is not None:
            self.tables[self.section][-1].append(("".join(self.cell), self.values))
            self.cell = None

    def handle_data(self, data: str) -> None:
        if self.cell is not None:
            self.cell.append(data)


def page_of(root: Path) -> str:
    return (root / "reports/index.html").read_text(encoding="utf-8")


def unknown_words(html: str) -> list[str]:
    """Words of programs for a number that is not known, where people would read them."""
    read = re.sub(r"<(style|script)[^>]*>.*?</\1>", "", html, flags=re.DOTALL)
    return re.findall(r"\b(?:nan|inf|None|null)\b", read)


def without_provenance(html: str) -> str:
    return re.sub(r'<section id="provenance">.*?</main>', "", html, flags=re.DOTALL)


def summary_of(root: Path) -> dict:
    return json.loads((root / "results/findings.json").read_text())["experiments"]["language_model"]["summary"]


def plain(text: str) -> float:
    """The number that a cell's text shows."""
    text = text.replace("\u202f", "").replace("−", "-").removesuffix("%")
    powers = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")
    found = re.fullmatch(r"(?:([\d.-]+)×)?10([⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+)", text)
    if found:
        return float(found[1] or 1) * 10.0 ** int(found[2].translate(powers))
    return float(text)


def grouped(rows: list[list[tuple[str, list[float]]]]) -> dict[str, dict[str, list[tuple[str, list[float]]]]]:
    """Heading of a group -> first cell of a row -> its other cells."""
    found: dict[str, dict[str, list[tuple[str, list[float]]]]] = {}
    for row in rows[1:]:
        if len(row) == 1:
            found[row[0][0]] = {}
        else:
            found[list(found)[-1]][row[0][0]] = row[1:]
    return found
