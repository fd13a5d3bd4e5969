"""The section on redundancy: disjoint sets, neurons alike, and layers that can go."""

from __future__ import annotations

from collections.abc import Iterator

from neuronatlas.atlas.page import Listing, Plot, Section, Tables, level
from neuronatlas.atlas.salience import curves
from neuronatlas.atlas.salience.names import short_name
from neuronatlas.atlas.salient_study.reading import as_salience, listing, models, reach, readable, rows
from neuronatlas.atlas.wording import Score, number, percent

__all__ = ["section"]

_NOTE = (
    "Disjoint sets: each does as well as all neurons and shares none with the others; + the search was ended by its "
    "bound. Alike: neurons of 1 \N{MINUS SIGN} |correlation| below the threshold, average linkage. Copies: neurons "
    "in a cluster that holds one of the minimal set, on average. Layers that can go: those above the lowest layer up "
    "to which all layers together lose no more accuracy than a minimal set may. Layers are chosen on development "
    "sentences; all accuracies are on test."
)


def section(tables: Tables) -> Section:
    """How often the same is there."""
    plots = [*_disjoint(tables), *_upto(tables)]
    title = "How redundantly a property is kept"
    return Section("redundancy", "Redundancy", title, _finding(tables), tuple(plots), (_listing(tables),), _NOTE)


def _finding(tables: Tables) -> str:
    found = readable(tables, rows(tables, "redundancy"))
    sets = [row["n_disjoint"] for row in found if row["n_disjoint"] is not None]
    text = ""
    if sets:
        bound = "at least " if any(row["disjoint_bound"] for row in found if row["n_disjoint"] == max(sets)) else ""
        few = f"{min(sets)} to {bound}{max(sets)}" if min(sets) < max(sets) else f"{bound}{max(sets)}"
        text = f"A property has {few} minimal {'set' if few == '1' else 'sets'} without a common neuron. "
    alike = {row["model"]: row["redundant_share"] for row in found if row["redundant_share"] is not None}
    if alike:
        text += f"{reach(list(alike.values()), 0)} of all neurons can go when one of each cluster of alike ones stays. "
    go = [row for row in found if row["n_can_go"] is not None]
    if go:
        most = max(go, key=lambda row: row["share_can_go"])
        count = sum(row["n_can_go"] > 0 for row in go)
        text += f"Upper layers can go in {count} of {len(go)} cases; the most for {short_name(most['label'])} in "
        text += f"{most['model']}, {most['n_can_go']} of {most['n_layers']}."
    return text.strip() or "Redundancy was not measured."


def _disjoint(tables: Tables) -> Iterator[Plot]:
    shown = []
    for place, model in enumerate(models(tables)):
        caption = (
            f"{model}: neurons in each further set that shares none with those before it. Open: no longer as good."
        )
        shown.append(Plot(f"disjoint-{place}", curves.disjoint_sizes(as_salience(tables, model)), caption))
    yield from level(shown)


def _upto(tables: Tables) -> Iterator[Plot]:
    shown = []
    for place, model in enumerate(models(tables)):
        caption = (
            f"{model}: accuracy of a probe on each layer with all below it. Whiskers: 95 % intervals over sentences."
        )
        shown.append(Plot(f"up-to-{place}", curves.layer_probes(as_salience(tables, model), upto=True), caption))
    yield from level(shown)


def _listing(tables: Tables) -> Listing:
    headings = ["Model", "Property", "#Disjoint sets", "#In some set", "#Clusters of all", "#Redundant, %"]
    headings += ["#Copies", "#Best layer", "#Its accuracy, %", "#Layers that can go"]
    found = []
    for row in rows(tables, "redundancy"):
        best = row["best_layer_accuracy"]
        score = Score(best, row["best_layer_accuracy_low"], row["best_layer_accuracy_high"]) if best is not None else ""
        found.append(
            [
                *(row["model"], short_name(row["label"])),
                f"{_whole(row['n_disjoint'])}{' +' if row['disjoint_bound'] else ''}",
                percent(row["share_in_sets"]),
                _whole(row["n_clusters"]),
                number(None if row["redundant_share"] is None else 100 * row["redundant_share"], 1),
                number(row["copies"], 2),
                _whole(row["best_layer"]),
                str(score).replace("\N{NO-BREAK SPACE}%", ""),
                f"{_whole(row['n_can_go'])} of {_whole(row['n_layers'])}",
            ]
        )
    return listing(headings, found, "Redundancy", "Find a model or property")


def _whole(value: int | None) -> str:
    return "\N{EN DASH}" if value is None else f"{value:,}"
