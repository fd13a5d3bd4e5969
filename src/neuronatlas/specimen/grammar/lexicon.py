"""The lexicon: one folder of tab-separated tables a language, read into typed entries.

In every table `_` is an empty cell and `|` separates several values. Where a cell asks for kinds of noun, it may also
name a semantic class (`animal`), which stands for all kinds of that class; `data/kinds.tsv` lists both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

LANGUAGES = ("en", "de", "es")


class LexiconError(ValueError):
    """A language or an entry that the lexicon does not have, or a broken table."""


@dataclass(frozen=True, slots=True)
class Noun:
    """A noun or a name; `plural` is empty for mass nouns and names, `at` is its own preposition of place or time."""

    singular: str
    plural: str
    gender: str
    kind: str
    semantic: str
    suffix: str
    oblique: str
    at: str
    proper: bool = False


@dataclass(frozen=True, slots=True)
class Verb:
    """A verb in one frame: who does it, to what, with which prepositional objects."""

    forms: Mapping[str, str]
    semantic: str
    subjects: tuple[str, ...]
    objects: tuple[str, ...]
    object_optional: bool
    clausal: bool
    obliques: tuple[tuple[str, tuple[str, ...]], ...]
    traits: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Adjective:
    """An adjective, its forms, and the kinds of noun it goes with."""

    forms: Mapping[str, str]
    semantic: str
    suffix: str
    kinds: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Adverb:
    """An adverb; empty `tenses`, `verbs` or `subjects` means that any will do."""

    form: str
    kind: str
    tenses: tuple[str, ...]
    verbs: tuple[str, ...]
    subjects: tuple[str, ...]
    suffix: str


@dataclass(frozen=True, slots=True)
class Preposition:
    """A preposition in one use; the form `@` stands for the noun's own (`at school`, `on the beach`)."""

    form: str
    kind: str
    nouns: tuple[str, ...]
    verbs: tuple[str, ...]
    heads: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Determiner:
    """A determiner, its forms by number, gender and case, and the noun phrases it opens."""

    forms: Mapping[str, str]
    kind: str
    upos: str
    role: str
    numbers: tuple[str, ...]
    position: str
    weight: int


@dataclass(frozen=True, slots=True)
class Pronoun:
    """A personal pronoun of the third person, or `we` where the verb form is that of `they`."""

    forms: Mapping[str, str]
    gender: str
    number: str


@dataclass(frozen=True)
class Lexicon:
    """All tables of one language."""

    language: str
    nouns: Mapping[str, tuple[Noun, ...]]
    names: tuple[Noun, ...]
    verbs: tuple[Verb, ...]
    adjectives: tuple[Adjective, ...]
    adverbs: tuple[Adverb, ...]
    prepositions: tuple[Preposition, ...]
    determiners: tuple[Determiner, ...]
    pronouns: tuple[Pronoun, ...]
    function_words: Mapping[tuple[str, str, str], str]
    suffixes: tuple[tuple[str, str], ...]
    contractions: Mapping[tuple[str, str], str]
    declensions: Mapping[str, Mapping[str, str]]

    def nouns_of(self, kinds: Sequence[str]) -> list[Noun]:
        """Every noun of these kinds, in the tables' order."""
        return [noun for kind in kinds for noun in self.nouns[kind]]

    def function(self, lemma: str, tense: str = "", number: str = "") -> str:
        """A function word's form; a form that does not vary by number (or tense) is found under any."""
        for key in ((lemma, tense, number), (lemma, tense, ""), (lemma, "", "")):
            if key in self.function_words:
                return self.function_words[key]
        raise LexiconError(f"{self.language}/function.tsv has no '{lemma}' for tense '{tense}', number '{number}'")

    def determiner(self, kind: str) -> Determiner:
        """The first determiner of a kind, for example the definite article."""
        return next(determiner for determiner in self.determiners if determiner.kind == kind)

    def ending(self, slot: str, form: str, base: str = "") -> str:
        """The inflectional suffix that a form shows in this slot of its paradigm, or `_`.

        >>> read_lexicon("en").ending("past", "walked", "walk"), read_lexicon("en").ending("past", "fed", "feed")
        ('-ed', '_')
        """
        grown = len(form) > len(base)
        return next((f"-{end}" for name, end in self.suffixes if name == slot and grown and form.endswith(end)), "_")


def read_table(path: str) -> list[dict[str, str]]:
    """The rows of `data/<path>`, a dict each; `_` becomes the empty string."""
    lines = files(__package__).joinpath("data", path).read_text("utf-8").splitlines()
    header = lines[0].split("\t")
    rows = []
    for number, line in enumerate(lines[1:], start=2):
        cells = ["" if cell == "_" else cell for cell in line.split("\t")]
        if len(cells) != len(header):
            raise LexiconError(f"{path}:{number}: {len(cells)} cells found, {len(header)} expected: {line!r}")
        rows.append(dict(zip(header, cells, strict=True)))
    return rows


@lru_cache(maxsize=len(LANGUAGES))
def read_lexicon(language: str) -> Lexicon:
    """Read one language's tables, once.

    >>> read_lexicon("de").nouns["season"][0].singular
    'Winter'
    """
    if language not in LANGUAGES:
        raise LexiconError(f"no grammar for language '{language}': choose one of {', '.join(LANGUAGES)}")
    kinds = _KindTable({row["kind"]: row["semantic"] for row in read_table("kinds.tsv")})

    def table(name: str) -> list[dict[str, str]]:
        return read_table(f"{language}/{name}.tsv")

    nouns = [_noun(row, kinds) for row in table("nouns")]
    endings = table("endings") if language == "de" else []
    return Lexicon(
        language=language,
        nouns={kind: tuple(noun for noun in nouns if noun.kind == kind) for kind in kinds.semantic},
        names=tuple(_name(row) for row in table("names")),
        verbs=tuple(_verb(row, kinds) for row in table("verbs")),
        adjectives=tuple(
            Adjective(row, row["semantic"], row["suffix"] or "_", kinds.expand(row["kinds"]))
            for row in table("adjectives")
        ),
        adverbs=tuple(_adverb(row) for row in table("adverbs")),
        prepositions=tuple(_preposition(row, kinds) for row in table("prepositions")),
        determiners=tuple(_determiner(row) for row in table("determiners")),
        pronouns=tuple(Pronoun(row, row["gender"], row["number"]) for row in table("pronouns")),
        function_words={(row["lemma"], row["tense"], row["number"]): row["form"] for row in table("function")},
        suffixes=tuple((row["slot"], row["suffix"]) for row in table("suffixes")),
        contractions={(row["preposition"], row["article"]): row["form"] for row in table("contractions")},
        declensions={row["declension"]: row for row in endings},
    )


@dataclass(frozen=True)
class _KindTable:
    """Which semantic class each kind of noun belongs to."""

    semantic: Mapping[str, str]

    def expand(self, cell: str) -> tuple[str, ...]:
        """The kinds that a cell names, semantic classes written out."""
        found: list[str] = []
        for name in _values(cell):
            members = [kind for kind, semantic in self.semantic.items() if name in (kind, semantic)]
            if not members:
                raise LexiconError(f"'{name}' is neither a kind nor a semantic class of kinds.tsv")
            found += [kind for kind in members if kind not in found]
        return tuple(found)


def _values(cell: str) -> tuple[str, ...]:
    return tuple(cell.split("|")) if cell else ()


def _noun(row: Mapping[str, str], kinds: _KindTable) -> Noun:
    return Noun(
        singular=row["singular"],
        plural=row["plural"],
        gender=row.get("gender", ""),
        kind=row["kind"],
        semantic=kinds.semantic[row["kind"]],
        suffix=row["suffix"] or "_",
        oblique=row.get("oblique", ""),
        at=row["at"],
    )


def _name(row: Mapping[str, str]) -> Noun:
    return Noun(row["form"], "", row["gender"], "person", "person", "_", "", "", proper=True)


def _verb(row: Mapping[str, str], kinds: _KindTable) -> Verb:
    objects = [name for name in row["object"].split("|") if name not in ("", "_", "clause")]
    obliques = [cell.split(":") for cell in row["oblique"].split(",") if cell]
    return Verb(
        forms=row,
        semantic=row["semantic"],
        subjects=kinds.expand(row["subject"]),
        objects=kinds.expand("|".join(objects)),
        object_optional="_" in row["object"].split("|"),
        clausal=row["object"] == "clause",
        obliques=tuple((preposition, kinds.expand(cell)) for preposition, cell in obliques),
        traits=_values(row["traits"]),
    )


def _adverb(row: Mapping[str, str]) -> Adverb:
    return Adverb(
        form=row["form"],
        kind=row["kind"],
        tenses=_values(row["tense"]),
        verbs=_values(row["verbs"]),
        subjects=_values(row["subjects"]),
        suffix=row["suffix"] or "_",
    )


def _preposition(row: Mapping[str, str], kinds: _KindTable) -> Preposition:
    return Preposition(
        row["form"], row["kind"], kinds.expand(row["nouns"]), _values(row["verbs"]), kinds.expand(row["heads"])
    )


def _determiner(row: Mapping[str, str]) -> Determiner:
    return Determiner(
        forms=row,
        kind=row["kind"],
        upos=row["upos"],
        role=row["role"],
        numbers=_values(row["numbers"]),
        position=row["position"],
        weight=int(row["weight"]),
    )
