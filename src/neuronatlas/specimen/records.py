"""The specimen's facts as a file beside its weights, one JSON object a line."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from neuronatlas.specimen.world import ANYWHERE, Wordings, facts, sentences


@dataclass(frozen=True, slots=True)
class SpecimenFact:
    """A fact the specimen was trained on, with prompts that hold `[MASK]` once, in the answer's place.

    `prompts` come from trained templates, `held_out_prompts` from templates it has never seen. `words` counts the
    answer's words; only answers of one word are sure to be one token.
    """

    relation: str
    language: str
    subject: str
    answer: str
    words: int
    prompts: tuple[str, ...]
    held_out_prompts: tuple[str, ...]


def world_records(wordings: Wordings = ANYWHERE) -> list[SpecimenFact]:
    """All facts of the world with their prompts in these wordings."""
    return [
        SpecimenFact(
            fact.relation,
            fact.language,
            fact.subject,
            fact.answer,
            len(fact.answer.split()),
            tuple(sentence.prompt for sentence in sentences(fact, held_out=False, wordings=wordings)),
            tuple(sentence.prompt for sentence in sentences(fact, held_out=True, wordings=wordings)),
        )
        for fact in facts()
    ]


def write_facts(path: Path, wordings: Wordings = ANYWHERE) -> None:
    """Write the world's facts as JSON lines, whole or not at all."""
    lines = [json.dumps(asdict(record), ensure_ascii=False) for record in world_records(wordings)]
    part = path.with_name(path.name + ".part")
    part.write_text("\n".join(lines) + "\n", encoding="utf-8")
    os.replace(part, path)


def read_facts(path: Path) -> tuple[SpecimenFact, ...]:
    """Read what `write_facts` wrote."""
    found = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    lists = ("prompts", "held_out_prompts")
    return tuple(SpecimenFact(**{**record, **{name: tuple(record[name]) for name in lists}}) for record in found)
