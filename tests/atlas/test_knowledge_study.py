"""Sections of the report on a study of knowledge neurons, where there is nothing to show."""

from __future__ import annotations

import polars as pl

from neuronatlas.atlas.knowledge_study.implicit import section

_TEXT = dict.fromkeys(("kind", "part", "condition"), pl.String)
_NUMBERS = dict.fromkeys(("log_odds", "log_odds_low", "log_odds_high"), pl.Float64)


def test_prompts_of_two_hops_that_the_model_does_not_answer_leave_no_empty_picture() -> None:
    nothing = pl.DataFrame(schema={**_TEXT, **_NUMBERS})
    counts = pl.DataFrame({"kind": ["two-hop"], "n_prompts": [2], "n_right": [0]})
    found = section({"implicit_summary": nothing, "implicit_counts": counts})
    assert found.finding == "Of 2 prompts of two hops the model answers 0 right. Nothing was tested."
    assert (found.plots, found.listings) == ((), ())
