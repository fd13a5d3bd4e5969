"""What the demonstration uses of a specimen: a few facts of every relation, and labelled sentences."""

from __future__ import annotations

from collections.abc import Iterable

from neuronatlas.knowledge.facts import Fact, FactError
from neuronatlas.models.model import Model
from neuronatlas.probing.corpora import Corpus
from neuronatlas.readers.files import RelationFilter
from neuronatlas.specimen import specimen_facts
from neuronatlas.studies.salience.settings import SalienceSettings
from neuronatlas.studies.specimen_corpus import corpus_of_specimen

__all__ = [
    "DEMO_LABELS",
    "DEMO_SENTENCES",
    "FACTS_PER_RELATION",
    "demo_corpora",
    "demo_facts",
    "demo_settings",
    "facts_of_specimen",
]

FACTS_PER_RELATION = 8
DEMO_LABELS = ("upos", "suffix", "number", "semantic")
DEMO_SENTENCES = 600


def facts_of_specimen(
    specimen: str = "masked", *, relations: Iterable[str] | None = None, limit: int | None = None
) -> list[Fact]:
    """A specimen's English facts whose answer is one word, with the prompts it was trained on.

    `relations` and `limit` select as those of `read_facts` do.

    Errors: FactError for a relation that there is not; SpecimenError for a specimen that there is not.
    """
    wanted = RelationFilter(None if relations is None else tuple(relations))
    records = [record for record in specimen_facts(model=specimen) if wanted(record.relation)]
    if unknown := wanted.unknown():
        raise FactError(f"no relation {' or '.join(map(repr, unknown))}: the specimen has {', '.join(wanted.seen)}")
    facts = [Fact(record.relation, record.subject, record.answer, record.prompts) for record in records]
    return [fact for group in _by_relation(facts) for fact in group[:limit]]


def demo_facts(model: Model, per_relation: int = FACTS_PER_RELATION) -> list[Fact]:
    """Choose equally many of a specimen's facts of each relation, spread evenly over its list; always the same ones.

    `model` is a specimen: only answers that are one token of it are taken. A relation with too few gives all it has.
    """
    single = [fact for fact in facts_of_specimen(model.kind) if len(model.tokenizer.tokenize(fact.answer)) == 1]
    return [fact for group in _by_relation(single) for fact in _spread(group, per_relation)]


def demo_corpora(n_sentences: int = DEMO_SENTENCES) -> list[Corpus]:
    """Sentences of the specimen's grammar, in English, once for each property of the demonstration."""
    return [corpus_of_specimen(label, n_sentences) for label in DEMO_LABELS]


def demo_settings() -> SalienceSettings:
    """How the demonstration looks for the neurons of these properties: by fewer rankings and words than usual."""
    return SalienceSettings(
        methods=("lca", "probeless", "average-precision", "mean-difference", "vote"),
        ablated=(0.02, 0.05, 0.1, 0.2, 0.5),
        most_sets=3,
        words_per_class=10,
        described=10,
    )


def _by_relation(facts: Iterable[Fact]) -> list[list[Fact]]:
    groups: dict[str, list[Fact]] = {}
    for fact in facts:
        groups.setdefault(fact.relation, []).append(fact)
    return list(groups.values())


def _spread(facts: list[Fact], count: int) -> list[Fact]:
    count = min(count, len(facts))
    return [facts[index * len(facts) // count] for index in range(count)]
