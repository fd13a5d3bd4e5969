"""The specimen: the small masked language model that ships with the package, its text and its training."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from neuronatlas.specimen.records import SpecimenFact, read_facts

__all__ = ["SpecimenFact", "specimen_facts", "specimen_folder"]


def specimen_folder() -> Path:
    """The folder with the shipped weights, configuration, tokenizer, facts.jsonl and training.json.

    >>> (specimen_folder() / "config.json").exists()
    True
    """
    return Path(str(resources.files(__name__).joinpath("weights")))


def specimen_facts(*, language: str = "en", one_word: bool = True) -> tuple[SpecimenFact, ...]:
    """The facts the specimen was trained on, in one language; by default those whose answer is one word.

    >>> {fact.subject: fact.answer for fact in specimen_facts() if fact.relation == "capital"}["Japan"]
    'Tokyo'
    """
    records = read_facts(specimen_folder() / "facts.jsonl")
    return tuple(r for r in records if r.language == language and (r.words == 1 or not one_word))
