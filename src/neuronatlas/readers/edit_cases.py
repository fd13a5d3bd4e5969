"""Files of edits with the prompts that judge them: CounterFact as published, EasyEdit's fields, KnowEdit's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from neuronatlas.knowledge.edit_cases import EditCase
from neuronatlas.knowledge.facts import ANSWER, PLACES, Fact, FactError
from neuronatlas.readers.files import TextFile, open_text
from neuronatlas.readers.strict_json import StrictJSONError, parse_json

__all__ = ["read_edit_cases"]

_REPHRASES = ("rephrase_prompt", "rephrase", "paraphrase_prompts")
UNNAMED = "edits"
"""The relation of edits whose file names none."""

Pairs = tuple[tuple[str, str], ...]


def read_edit_cases(path: str | Path, *, limit: int | None = None) -> tuple[EditCase, ...]:
    """Read a JSON list of edits, or an object a line, gzipped or not: the first `limit` of them.

    Known fields: EasyEdit's (`prompt`, `subject`, `ground_truth`, `target_new`, `rephrase_prompt`, `locality_prompt`,
    `locality_ground_truth`), KnowEdit's (`locality` and `portability`, objects that hold lists of `prompt` and
    `ground_truth` under names of their own, and `rephrase`), and CounterFact's as published (`requested_rewrite`,
    `paraphrase_prompts`, `neighborhood_prompts`). Prompts without a place get it at their end, with a full stop. An
    answer in lists is the first one.

    Errors: FactFileError, naming the file and the edit, for anything else, and where two answers are the same.

    >>> import json, tempfile
    >>> edit = {"prompt": "France is governed from", "ground_truth": "Paris", "target_new": "Rome"}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "edits.json"
    ...     _ = path.write_text(json.dumps([edit]))
    ...     [case] = read_edit_cases(path)
    >>> case.fact.prompts, case.fact.answer, case.new_answer
    (('France is governed from {answer}.',), 'Paris', 'Rome')
    """
    file = open_text(Path(path))
    cases: list[EditCase] = []
    for where, entry in _entries(file):
        if limit is not None and len(cases) >= limit:
            break
        with file.faults_at(where):
            cases.append(_case(file, where, entry))
    if not cases:
        raise file.error("there are no edits in it: a list of objects expected")
    return tuple(cases)


def _entries(file: TextFile) -> Iterator[tuple[str, Mapping[str, Any]]]:
    try:
        found = parse_json(file.text)
        entries = [(f"edit {number}", entry) for number, entry in enumerate(_listed(found), start=1)]
    except StrictJSONError as whole:
        try:
            lines = [(number, line) for number, line in file.lines() if line.strip()]
            entries = [(f"line {number}", parse_json(line)) for number, line in lines]
        except StrictJSONError:
            raise file.error(f"neither a JSON list nor an object a line ({whole})") from None
    for where, entry in entries:
        if not isinstance(entry, dict):
            raise file.error(f"{entry!r:.80} is no edit: an object expected", where)
        yield where, entry


def _listed(found: Any) -> list[Any]:
    return found if isinstance(found, list) else [found]


def _case(file: TextFile, where: str, entry: Mapping[str, Any]) -> EditCase:
    rewrite = entry.get("requested_rewrite")
    asked = _published(rewrite) if isinstance(rewrite, dict) else entry
    missing = [name for name in ("prompt", "target_new", "ground_truth") if not _answer(asked.get(name))]
    if missing:
        raise file.error(f"there is no {missing[0]!r}: the edit has {', '.join(map(repr, entry)) or 'nothing'}", where)
    subject, old, new = (_answer(asked.get(name)) for name in ("subject", "ground_truth", "target_new"))
    if old == new:
        raise file.error(f"the new answer is the old one: {old!r}", where)
    relation = str(asked.get("relation_id") or UNNAMED)
    fact = Fact(relation, subject or None, old, [_placed(asked["prompt"])])
    rephrased = [text for name in _REPHRASES for text in _texts(entry.get(name))]
    paraphrases = tuple(dict.fromkeys(_placed(text) for text in rephrased))
    return EditCase(fact, new, paraphrases, _locality(entry, old), _pairs(entry.get("portability")))


def _published(rewrite: Mapping[str, Any]) -> Mapping[str, Any]:
    """CounterFact's own fields under EasyEdit's names."""
    subject = str(rewrite.get("subject", ""))
    texts = {
        name: rewrite[given].get("str")
        for name, given in (("target_new", "target_new"), ("ground_truth", "target_true"))
        if isinstance(rewrite.get(given), dict)
    }
    return {**rewrite, "prompt": str(rewrite.get("prompt", "")).replace("{}", subject), **texts}


def _locality(entry: Mapping[str, Any], old: str) -> Pairs:
    found = list(_pairs(entry.get("locality")))
    prompt, answer = entry.get("locality_prompt"), _answer(entry.get("locality_ground_truth"))
    if isinstance(prompt, str) and answer:
        found.append((_placed(prompt), answer))
    # CounterFact's neighbours are subjects of which the old answer is true.
    found += [(_placed(text), old) for text in _texts(entry.get("neighborhood_prompts"))]
    return tuple(found)


def _pairs(given: Any) -> Pairs:
    """Prompts with their answers, from a list of objects, or from such lists under any names."""
    if isinstance(given, dict) and "prompt" not in given:
        return tuple(pair for part in given.values() for pair in _pairs(part))
    found = []
    for item in given if isinstance(given, list) else [given] if isinstance(given, dict) else []:
        answer = _answer(item.get("ground_truth")) if isinstance(item, dict) else ""
        if answer and isinstance(item.get("prompt"), str):
            found.append((_placed(item["prompt"]), answer))
    return tuple(found)


def _texts(given: Any) -> list[str]:
    return [text for text in (given if isinstance(given, list) else [given]) if isinstance(text, str) and text.strip()]


def _answer(given: Any) -> str:
    """A text, or the first one in lists of them."""
    while isinstance(given, list) and given:
        given = given[0]
    return given.strip() if isinstance(given, str) else ""


def _placed(prompt: Any) -> str:
    if not isinstance(prompt, str) or not prompt.strip():
        raise FactError(f"prompt {prompt!r:.60} is no text")
    return prompt if any(place in prompt for place in PLACES) else f"{prompt.rstrip()} {ANSWER}."
