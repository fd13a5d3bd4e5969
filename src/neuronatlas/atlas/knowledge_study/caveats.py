"""What in a study asks for care, in words."""

from __future__ import annotations

import polars as pl

from neuronatlas.atlas.page import Tables
from neuronatlas.atlas.wording import count, listed

__all__ = ["caveats"]

FEW_RELATIONS = 4
MANY_REFUSED = 0.1


def caveats(tables: Tables) -> list[str]:
    """What in these very tables asks for care; nothing where nothing does."""
    experiments = tables["experiments"]
    found = []
    if missing := experiments.filter(~pl.col("done"))["experiment"].to_list():
        found.append(f"Not run yet: {listed(missing, 20)}. The same command without --only goes on with them.")
    for name, reason in experiments.drop_nulls("refused").select("experiment", "refused").iter_rows():
        found.append(f"Not measured: {name}, because {reason}.")
    if "summary" in tables:
        relations = tables["summary"].filter(pl.col("relation") != "all")["relation"].n_unique()
        if relations < FEW_RELATIONS:
            found.append(f"{count(relations, 'relation')} only: a mean over relations says little. The paper has 34.")
    if "update_sizes" in tables:
        sizes = tables["update_sizes"].filter(method="normalised").row(0, named=True)
        if sizes["refused"] > MANY_REFUSED * sizes["cases"]:
            found.append(
                f"The paper's rule refused {sizes['refused']:,} of {count(sizes['cases'], 'edit')}, which count as "
                "those that changed nothing: more than 10 % of the relation's facts have all neurons of the fact "
                "too. Where a relation has few facts, one is enough."
            )
    return found
