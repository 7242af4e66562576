"""The table of excluded runs: its rows are those that a caption read word by word allows, trunks included."""

import polars as pl

from pipeline.reporting.study_tables import excluded_table

RUNS = pl.DataFrame(
    [
        ("finished trunk", "trunk", "finished", None),
        ("waived trunk", "trunk", "waived", "its node is gone"),
        ("missing trunk", "trunk", "missing", "not trained yet"),
        ("point", "cooldown", "finished", None),
        ("too early", "cooldown", "finished", None),
        ("diverged", "cooldown", "diverged", "its loss is not finite"),
    ],
    schema=["run_id", "kind", "status", "reason"],
    orient="row",
).with_columns(width=32, D=1000, seed=0)


def test_trunks_are_listed_as_the_caption_says():
    judged = RUNS.filter(run_id="too early").with_columns(status=pl.lit("excluded"), reason=pl.lit("below N_min"))
    table = excluded_table(RUNS, judged)
    listed = {row[0].text for row in table.rows}
    assert listed == {"waived trunk", "missing trunk", "too early", "diverged"}
    assert "Trunks never do: those that finished are not listed, those that did not are." in table.caption
