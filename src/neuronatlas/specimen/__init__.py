"""The specimens: the small language models that ship with the package, their text and their training."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from neuronatlas.specimen.records import SpecimenFact, read_facts

__all__ = ["SPECIMENS", "SpecimenError", "SpecimenFact", "specimen_facts", "specimen_folder"]

SPECIMENS = ("masked", "causal")
"""The kinds of specimen that ship: a BERT that fills masks, and a Llama that goes on with a text."""


class SpecimenError(ValueError):
    """A specimen that does not ship with the package."""


def specimen_folder(model: str = "masked") -> Path:
    """The folder with a specimen's weights, configuration, tokenizer, facts.jsonl and training.json.

    Errors: SpecimenError when `model` is not one of `SPECIMENS`.

    >>> (specimen_folder("causal") / "config.json").exists()
    True
    """
    if model not in SPECIMENS:
        raise SpecimenError(f"no specimen {model!r}: {' or '.join(map(repr, SPECIMENS))} expected")
    return Path(str(resources.files(__name__).joinpath("weights", model)))


def specimen_facts(*, model: str = "masked", language: str = "en", one_word: bool = True) -> tuple[SpecimenFact, ...]:
    """The facts a specimen was trained on, in one language; by default those whose answer is one word.

    The facts are the same for every specimen; the prompts are those that it was trained on and can be asked.

    Errors: SpecimenError when `model` is not one of `SPECIMENS`.

    >>> {fact.subject: fact.answer for fact in specimen_facts() if fact.relation == "capital"}["Japan"]
    'Tokyo'
    >>> specimen_facts(model="causal")[0].prompts[0]
    'The Komodo dragon is a kind of [MASK].'
    """
    records = read_facts(specimen_folder(model) / "facts.jsonl")
    return tuple(r for r in records if r.language == language and (r.words == 1 or not one_word))
