"""The site of a study, built from what git holds: the last publication in front, the earlier ones under versions/.

    python -m pipeline.publishing.site

The standard library alone, so that a machine that deploys needs neither the study's environment nor its runs. A version
is the report of the commit that brought its publication; one that is not committed yet is that of the working tree.
"""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import zipfile
from html import escape
from pathlib import Path

from pipeline.publishing.publication import Publication, read_publications

SITE = "site"
PARTS = ("reports", "results/findings.json")
MARK = "<!--versions-->"
"""Where the page has room for a link to the other versions, which only the site has."""


def build_site(root: Path) -> str:
    """Writes the folder site/ of the study in `root`, whole or not at all, and returns a line on it.

    Raises ValueError where nothing is published, or git lacks what a publication was made of.
    """
    publications = read_publications(root)
    if not publications:
        raise ValueError("publications/: nothing is published yet; `study publish` does it")
    if _git(root, "rev-parse", "--is-shallow-repository").strip() == b"true":
        raise ValueError(
            f"{root}: a shallow clone lacks the earlier versions; fetch the whole history (fetch-depth: 0)"
        )
    building, site = root / f".{SITE}.partial", root / SITE
    shutil.rmtree(building, ignore_errors=True)
    *earlier, last = publications
    _write_version(root, last, building)
    for one in earlier:
        _write_version(root, one, building / "versions" / one.name)
    (building / "versions").mkdir(exist_ok=True)
    (building / "versions/index.html").write_text(_listing(publications), encoding="utf-8")
    page = building / "index.html"
    link = '<p><a href="versions/index.html">All versions of this page</a></p>'
    page.write_text(page.read_text(encoding="utf-8").replace(MARK, link), encoding="utf-8")
    (building / ".nojekyll").touch()
    shutil.rmtree(site, ignore_errors=True)
    building.rename(site)
    files = [path for path in site.rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files) / 1e6
    return f"{SITE}/: {last.name} and {len(earlier)} earlier versions, {len(files)} files, {size:.1f} MB"


def _write_version(root: Path, one: Publication, folder: Path) -> None:
    """The report of a publication with study.json and CITATION.cff, in `folder`."""
    commits = _git(root, "log", "--diff-filter=A", "--format=%H", "--", one.path).decode().split()
    with_parts = folder.with_name(f"{folder.name}.parts")
    shutil.rmtree(with_parts, ignore_errors=True)
    with_parts.mkdir(parents=True)
    if commits:
        archive = _git(root, "archive", "--format=zip", commits[-1], "--", *PARTS)
        with zipfile.ZipFile(io.BytesIO(archive)) as parts:  # which, unlike tar, never leaves the folder
            parts.extractall(with_parts)
    else:
        shutil.copytree(root / "reports", with_parts / "reports")
        (with_parts / "results").mkdir()
        shutil.copy(root / "results/findings.json", with_parts / "results")
    (with_parts / "reports").rename(folder)
    findings = json.loads((with_parts / "results/findings.json").read_text(encoding="utf-8"))["experiments"]
    shutil.rmtree(with_parts)
    study = {"version": one.name, "published_at": one.published_at, "commit": one.commit, "citation": one.citation}
    study |= {**one.state, "forecasts": one.forecasts}
    study["findings"] = {name: judged["findings"] for name, judged in findings.items()}
    (folder / "study.json").write_text(json.dumps(study, sort_keys=True, indent=1) + "\n", encoding="utf-8")
    (folder / "CITATION.cff").write_text(citation(one), encoding="utf-8")


def citation(one: Publication) -> str:
    """The publication in the Citation File Format 1.2.0; values are JSON strings, which YAML reads as they stand."""
    facts = one.citation
    lines = ["cff-version: 1.2.0", "message: Please cite this study as below.", "type: dataset"]
    lines += [f"title: {json.dumps(facts['title'])}", "authors:"]
    lines += [f"  - name: {json.dumps(author)}" for author in facts["authors"]]
    lines += [f"version: {json.dumps(one.name)}", f"commit: {json.dumps(one.commit)}"]
    lines += [f"date-released: {one.published_at[:10]}", f"license: {json.dumps(facts['licence'])}"]
    lines += [f"url: {json.dumps(facts['url'])}"] if facts["url"] else []
    return "\n".join(lines) + "\n"


def _listing(publications: list[Publication]) -> str:
    newest_first = [(one, "../index.html") for one in publications[-1:]]
    newest_first += [(one, f"{one.name}/index.html") for one in reversed(publications[:-1])]
    rows = "\n".join(
        f'<tr><th scope="row"><a href="{escape(link)}">{escape(one.name)}</a></th><td>{escape(one.published_at)}</td>'
        f"<td>{escape(str(one.state['law']['name']))}</td><td>{one.state['law']['num_points']}</td>"
        f"<td>{len(one.forecasts)}</td></tr>"
        for one, link in newest_first
    )
    names = ("version", "published", "law", "points", "forecasts")
    head = "".join(f'<th scope="col">{name}</th>' for name in names)
    title = escape(publications[-1].citation["title"])
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}: versions</title>
<style>body {{ font: 1rem/1.5 system-ui; margin: 2rem auto; max-width: 60rem; padding: 0 1rem }}
th, td {{ text-align: left; padding: 0.2rem 1rem 0.2rem 0 }}</style>
</head>
<body>
<h1>{title}: versions</h1>
<table>
<thead><tr>{head}</tr></thead>
<tbody>
{rows}
</tbody>
</table>
</body>
</html>
"""


def _git(root: Path, *arguments: str) -> bytes:
    try:
        return subprocess.run(["git", *arguments], cwd=root, capture_output=True, check=True).stdout
    except FileNotFoundError:
        raise ValueError("git: not installed; the versions of the site come from its history") from None
    except subprocess.CalledProcessError as error:
        raise ValueError(f"git {arguments[0]}: {' '.join(error.stderr.decode().split())}") from None


if __name__ == "__main__":
    try:
        print(build_site(Path.cwd()))
    except (ValueError, OSError) as error:
        raise SystemExit(f"error: {error}") from None
