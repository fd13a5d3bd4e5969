"""The models and facts that commands are given."""

from __future__ import annotations

from pathlib import Path

from neuronatlas import specimen
from neuronatlas.cli.running import note
from neuronatlas.knowledge.facts import Fact, FactError
from neuronatlas.models import Model, load
from neuronatlas.models.queries import place_tokens
from neuronatlas.models.sites import SITE_NAMES, SiteError
from neuronatlas.readers import read_facts
from neuronatlas.readers.files import open_text
from neuronatlas.studies.demo import facts_of_specimen

__all__ = ["SPECIMEN", "SPECIMENS", "choose_fact", "open_facts", "open_model", "require_facts"]

SPECIMEN = "specimen"
SPECIMENS = {SPECIMEN: "masked", "specimen-causal": "causal"}
"""The words by which the command line knows the models inside the package."""


def open_model(
    name: str, *, revision: str | None = None, device: str = "auto", dtype: str = "auto", site: str | None = "ffn"
) -> Model:
    """Load a model by name, `specimen` and `specimen-causal` being those that ship with the package.

    Device `spread` means all devices that there are; site None, the first that is proved.
    """
    if site is not None and site not in SITE_NAMES:
        raise SiteError(f"no site {site!r}: one of {', '.join(SITE_NAMES)} expected")
    note(f"loading {name}")
    one, several = ("auto", "auto") if device == "spread" else (device, None)
    if name not in SPECIMENS:
        return load(name, revision=revision, device=one, device_map=several, dtype=dtype, site=site)
    folder = specimen.specimen_folder(SPECIMENS[name])
    model = load(folder, device=one, device_map=several, dtype=dtype, site=None)
    model.name = name  # and not the folder that the package happens to be installed in
    model.default_site = site or model.default_site
    model.site()
    return model


def require_facts(source: str) -> None:
    """Refuse a file that cannot be read before a model is loaded for it."""
    if source not in SPECIMENS:
        open_text(Path(source))


def open_facts(source: str, model: Model, relations: list[str] | None, limit: int | None) -> list[Fact]:
    """Read a selection of facts, in which the model's own mask token may mark the answer's place."""
    if source in SPECIMENS:
        return facts_of_specimen(SPECIMENS[source], relations=relations, limit=limit)
    return list(read_facts(source, relations=relations, limit=limit, places=place_tokens(model)))


def choose_fact(facts: list[Fact], wanted: str) -> int:
    """Index of the fact that is meant: by its number, counted from 0, or by its subject."""
    if wanted.isdecimal():
        if int(wanted) >= len(facts):
            raise FactError(f"no fact {wanted}: the selection has {len(facts)}, from 0 to {len(facts) - 1}")
        return int(wanted)
    found = [index for index, fact in enumerate(facts) if fact.subject == wanted]
    if not found:
        raise FactError(
            f"no fact about {wanted!r} among the {len(facts)} selected: give its subject, or its number from 0"
        )
    if len(found) > 1:
        which = ", ".join(f"{index} ({facts[index].relation})" for index in found[:6])
        raise FactError(f"{len(found)} facts are about {wanted!r}: give the number of one of them: {which}")
    return found[0]
