"""The specimen's world: tables of true facts, and the templates that put them into sentences."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable

LANGUAGES = ("en", "de", "es")
MASK = "[MASK]"


class WorldError(ValueError):
    """A table of the world is malformed; the message names the file, the line and what to do."""


@dataclass(frozen=True, slots=True)
class WorldFact:
    """One true statement: in this language, this relation leads from this subject to this answer.

    >>> WorldFact("capital", "en", "Japan", "Tokyo").is_one_word
    True
    """

    relation: str
    language: str
    subject: str
    answer: str

    @property
    def is_one_word(self) -> bool:
        """Whether the answer is one word of letters alone, and so one token of the specimen."""
        return self.answer.isalpha()


@dataclass(frozen=True, slots=True)
class Template:
    """A sentence with one place for the subject and one for the answer; held out ones are never trained on."""

    relation: str
    language: str
    text: str
    held_out: bool


@dataclass(frozen=True, slots=True)
class Sentence:
    """A rendered text and where, in characters, its subject and its answer stand (half-open spans)."""

    text: str
    subject_span: tuple[int, int]
    answer_span: tuple[int, int]

    @property
    def subject(self) -> str:
        """The subject as it is written in the text."""
        return self.text[slice(*self.subject_span)]

    @property
    def answer(self) -> str:
        """The answer as it is written in the text."""
        return self.text[slice(*self.answer_span)]

    @property
    def prompt(self) -> str:
        """The text with one `[MASK]` in the answer's place.

        >>> render("{answer} is the capital of {subject}.", "Japan", "Tokyo").prompt
        '[MASK] is the capital of Japan.'
        """
        start, end = self.answer_span
        return self.text[:start] + MASK + self.text[end:]

    @property
    def ends_in_answer(self) -> bool:
        """Whether nothing but punctuation follows the answer.

        >>> render("The capital of {subject} is {answer}.", "Japan", "Tokyo").ends_in_answer
        True
        """
        return not any(character.isalnum() for character in self.text[self.answer_span[1] :])

    def shifted(self, before: str, after: str = "") -> Sentence:
        """The same sentence with other text put before and after it."""
        by = len(before)
        return Sentence(
            before + self.text + after,
            (self.subject_span[0] + by, self.subject_span[1] + by),
            (self.answer_span[0] + by, self.answer_span[1] + by),
        )


@dataclass(frozen=True, slots=True)
class Wordings:
    """What a kind of model is taught and asked in: tables of templates, and whether the answer has to stand last."""

    tables: tuple[str, ...]
    answer_last: bool

    def admit(self, sentence: Sentence) -> bool:
        """Whether the sentence has its answer where this kind of model can be asked for it."""
        return sentence.ends_in_answer or not self.answer_last


ANYWHERE = Wordings(("templates",), answer_last=False)
AT_THE_END = Wordings(("templates", "endings"), answer_last=True)


def capitalised(text: str) -> str:
    """The text with its first letter in upper case and all others as they were.

    >>> capitalised("the Netherlands")
    'The Netherlands'
    """
    return text[:1].upper() + text[1:]


def render(template: str, subject: str, answer: str) -> Sentence:
    """Fill a template and capitalise its first letter.

    >>> render("{subject} pays in {answer}.", "the Netherlands", "euro").text
    'The Netherlands pays in euro.'
    """
    values = {"{subject}": subject, "{answer}": answer}
    text, spans = template, {}
    for place in sorted(values, key=template.index):  # from left to right, so that no later filling moves a span
        start, value = text.index(place), values[place]
        text = text[:start] + value + text[start + len(place) :]
        spans[place] = (start, start + len(value))
    return Sentence(capitalised(text), spans["{subject}"], spans["{answer}"])


def suits(template: Template, fact: WorldFact) -> bool:
    """Whether the template can state the fact: same relation and language, and the answer keeps its own spelling.

    An answer in lower case cannot open a sentence, because the capital would make it another token.

    >>> opens = Template("currency", "en", "{answer} is the money of {subject}.", held_out=False)
    >>> suits(opens, WorldFact("currency", "en", "Japan", "yen"))
    False
    """
    opens_in_lower_case = template.text.startswith("{answer}") and not fact.answer[:1].isupper()
    same = (template.relation, template.language) == (fact.relation, fact.language)
    return same and not opens_in_lower_case


def relations() -> tuple[str, ...]:
    """The names of all relations, in alphabetical order."""
    tables = resources.files(__package__).joinpath("world", "facts").iterdir()
    return tuple(sorted(table.name.removesuffix(".tsv") for table in tables if table.name.endswith(".tsv")))


def choosing_relations() -> tuple[str, ...]:
    """The half of the relations on which training choices are made: every other one in alphabetical order."""
    return relations()[0::2]


def reporting_relations() -> tuple[str, ...]:
    """The other half: no training choice looked at these, so their numbers are the ones to report."""
    return relations()[1::2]


@functools.cache
def facts() -> tuple[WorldFact, ...]:
    """All facts, by relation, language and subject.

    Raises:
        WorldError: a table has a broken line, an empty cell or the same subject twice.
    """
    found = [fact for row in parallel_facts() for fact in row.values()]
    return tuple(sorted(found, key=lambda f: (f.relation, LANGUAGES.index(f.language), f.subject)))


@functools.cache
def parallel_facts() -> tuple[dict[str, WorldFact], ...]:
    """The same facts by language: for each line of the tables, what it says in every language that it has.

    Errors: those of `facts`.

    >>> next(row["de"].subject for row in parallel_facts() if row["en"].subject == "France" and "de" in row)
    'Frankreich'
    """
    return tuple(row for relation in relations() for row in _facts_of(relation))


@functools.cache
def templates(wordings: Wordings = ANYWHERE) -> tuple[Template, ...]:
    """All templates of these wordings, by relation and in the order of their tables.

    Raises:
        WorldError: a template lacks a place, has one twice, or names a language that is not known.
    """
    return tuple(
        template
        for relation in relations()
        for table in wordings.tables
        for template in _templates_of(relation, table)
        if wordings.admit(render(template.text, "", ""))
    )


@functools.cache
def templates_for(relation: str, language: str, wordings: Wordings = ANYWHERE) -> tuple[Template, ...]:
    """The templates of one relation in one language."""
    return tuple(t for t in templates(wordings) if t.relation == relation and t.language == language)


def sentences(fact: WorldFact, *, held_out: bool, wordings: Wordings = ANYWHERE) -> list[Sentence]:
    """The fact in each of its templates, either the trained ones or those held out."""
    found = templates_for(fact.relation, fact.language, wordings)
    usable = (template for template in found if template.held_out == held_out and suits(template, fact))
    return [render(template.text, fact.subject, fact.answer) for template in usable]


def _facts_of(relation: str) -> Iterator[dict[str, WorldFact]]:
    seen: set[tuple[str, str]] = set()
    for where, row in _rows(_table("facts", relation)):
        found: dict[str, WorldFact] = {}
        for language in LANGUAGES:
            suffix = "" if language == "en" else f"_{language}"
            subject, answer = row.get("subject" + suffix, ""), row.get("answer" + suffix, "")
            if not subject and not answer and language != "en":
                continue
            if not subject or not answer:
                raise WorldError(f"{where}: subject {subject!r} with answer {answer!r} in {language}; fill both cells")
            if (language, subject) in seen:
                raise WorldError(f"{where}: the subject {subject!r} stands twice in {language}; keep one line")
            seen.add((language, subject))
            found[language] = WorldFact(relation, language, subject, answer)
        yield found


def _templates_of(relation: str, table: str) -> Iterator[Template]:
    for where, row in _rows(_table(table, relation)):
        text, language, held_out = row["template"], row["language"], row["held_out"]
        if text.count("{subject}") != 1 or text.count("{answer}") != 1:
            raise WorldError(f"{where}: {text!r} needs {{subject}} and {{answer}} exactly once each")
        if language not in LANGUAGES or held_out not in ("0", "1"):
            raise WorldError(f"{where}: language {language!r}, held_out {held_out!r}; use {LANGUAGES} and 0 or 1")
        yield Template(relation, language, text, held_out == "1")


def _table(folder: str, relation: str) -> Traversable:
    return resources.files(__package__).joinpath("world", folder, f"{relation}.tsv")


def _rows(table: Traversable) -> Iterator[tuple[str, dict[str, str]]]:
    """Each line as (file:line, cells by column)."""
    header, *lines = table.read_text(encoding="utf-8").splitlines()
    columns = header.split("\t")
    for number, line in enumerate(lines, start=2):
        cells = line.split("\t")
        if len(cells) != len(columns):
            raise WorldError(f"{table.name}:{number}: {len(cells)} cells where the header has {len(columns)}")
        yield f"{table.name}:{number}", dict(zip(columns, cells, strict=True))
