"""The grammar's promises: its words agree, its labels fit, and a seed always says the same."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuronatlas.specimen.grammar import LABEL_KEYS, LANGUAGES, LabelledSentence, generate, to_conllu
from neuronatlas.specimen.grammar.lexicon import LexiconError, read_lexicon, read_table

languages = pytest.mark.parametrize("language", LANGUAGES)
seeds = st.integers(min_value=-(2**40), max_value=2**40)


@cache
def _sample(language: str) -> tuple[LabelledSentence, ...]:
    return tuple(generate(language, 3000, seed=11))


def _rows(language: str, table: str) -> list[dict[str, str]]:
    return read_table(f"{language}/{table}.tsv")


def _pairs(language: str, first: str, second: str) -> Iterator[tuple[LabelledSentence, int]]:
    """Every place where a word of one part of speech stands before one of another."""
    for sentence in _sample(language):
        upos = sentence.labels["upos"]
        for place in range(len(upos) - 1):
            if (upos[place], upos[place + 1]) == (first, second):
                yield sentence, place


def _lower_first(sentence: LabelledSentence, place: int) -> str:
    return sentence.words[place].lower() if place <= 1 else sentence.words[place]


@given(language=st.sampled_from(LANGUAGES), seed=seeds)
@settings(max_examples=30, deadline=None)
def test_every_label_has_one_value_a_word(language: str, seed: int) -> None:
    for sentence in generate(language, 20, seed):
        assert set(sentence.labels) == set(LABEL_KEYS)
        assert {len(values) for values in sentence.labels.values()} == {len(sentence.words)}
        assert all(value for values in sentence.labels.values() for value in values)
        assert sentence.labels["role"].count("root") == 1
        assert sentence.text[0] in "¿" or sentence.text[0].isupper()
        assert sentence.text[-1] in ".?"


@given(language=st.sampled_from(LANGUAGES), seed=seeds)
@settings(max_examples=10, deadline=None)
def test_the_same_seed_writes_the_same_sentences_and_a_longer_run_begins_with_a_shorter(
    language: str, seed: int
) -> None:
    longer = list(generate(language, 20, seed))
    assert list(generate(language, 12, seed)) == longer[:12]


@given(language=st.sampled_from(LANGUAGES), seed=seeds)
@settings(max_examples=15, deadline=None)
def test_chunks_are_iob2(language: str, seed: int) -> None:
    for sentence in generate(language, 20, seed):
        before = "O"
        for chunk in sentence.labels["chunk"]:
            assert not chunk.startswith("I-") or before[2:] == chunk[2:], sentence
            before = chunk


@languages
def test_sentences_differ_and_seeds_matter(language: str) -> None:
    assert len({sentence.text for sentence in _sample(language)}) == len(_sample(language))
    assert [sentence.text for sentence in generate(language, 5, 1)] != [
        sentence.text for sentence in generate(language, 5, 2)
    ]


@languages
def test_subject_verb_and_object_alone_make_20000_sentences(language: str) -> None:
    lexicon = read_lexicon(language)
    count = sum(len(lexicon.nouns_of(verb.subjects)) * len(lexicon.nouns_of(verb.objects)) for verb in lexicon.verbs)
    assert count > 20_000


@languages
def test_the_lexicon_is_as_large_as_promised_and_says_nothing_twice(language: str) -> None:
    for table, least in (("nouns", 120), ("verbs", 80), ("adjectives", 50), ("adverbs", 30)):
        rows = [tuple(row.items()) for row in _rows(language, table)]
        assert len(rows) >= least
        assert len(set(rows)) == len(rows)


def test_english_subject_and_verb_agree() -> None:
    rows = _rows("en", "verbs")
    forms = {
        "Sing": {row["third"] for row in rows} | {"is", "does", "was"},
        "Plur": {row["base"] for row in rows} | {"are", "do", "were"},
    }
    seen = 0
    for auxiliary in ("VERB", "AUX"):
        for noun in ("NOUN", "PROPN", "PRON"):
            for sentence, place in _pairs("en", noun, auxiliary):
                number, tense = sentence.labels["number"][place], sentence.labels["tense"][place + 1]
                word = sentence.words[place + 1]
                finite = sentence.labels["number"][place + 1] != "_"
                subject = sentence.labels["role"][place].startswith("nsubj")
                if subject and finite and (tense == "Pres" or word in ("was", "were")) and word not in ("can", "must"):
                    seen += 1
                    assert word in forms[number], sentence.text
    assert seen > 100


def test_english_chooses_a_or_an_by_the_next_letter() -> None:
    seen = set()
    for sentence in _sample("en"):
        for article, word in zip(sentence.words, sentence.words[1:], strict=False):
            if article.lower() in ("a", "an"):
                seen.add(article.lower())
                assert (article.lower() == "an") == (word[0].lower() in "aeiou"), sentence.text
    assert seen == {"a", "an"}


def test_no_english_word_starts_with_a_letter_that_misleads_a_or_an() -> None:
    words = [row["singular"] for row in _rows("en", "nouns")] + [row["form"] for row in _rows("en", "adjectives")]
    assert not [word for word in words if word.startswith(("hour", "honest", "heir", "uni", "use", "eu", "one"))]


def _german_cells(word: str, case: str) -> set[str]:
    """The columns of the determiner table in which a noun form may stand, in one case."""
    cells = set()
    for row in _rows("de", "nouns"):
        singular = row["oblique"] if row["oblique"] and case != "nom" else row["singular"]
        dative = row["plural"] + ("n" if row["plural"] and row["plural"][-1] not in "ns" else "")
        cells |= {f"{row['gender'].lower()}_{case}"} if word == singular else set()
        cells |= {f"plur_{case}"} if word == (dative if case == "dat" else row["plural"]) else set()
    return cells


def test_german_articles_agree_with_their_noun_in_gender_number_and_case() -> None:
    cases = {"nsubj": "nom", "nsubj:pass": "nom", "obj": "acc", "obl": "dat", "obl:agent": "dat", "nmod": "dat"}
    determiners = _rows("de", "determiners")
    seen = dict.fromkeys(cases, 0)
    for sentence, place in _pairs("de", "DET", "NOUN"):
        role, article = sentence.labels["role"][place + 1], _lower_first(sentence, place)
        if role in cases:
            seen[role] += 1
            cells = _german_cells(sentence.words[place + 1], cases[role])
            assert any(row[cell] == article for row in determiners for cell in cells), sentence.text
    assert min(seen.values()) > 3


def test_german_verbs_stand_second_and_end_their_subordinate_clause() -> None:
    for sentence in _sample("de"):
        chunks, roles = sentence.labels["chunk"], sentence.labels["role"]
        if "advcl" in roles and "root" in roles:
            last = max(place for place, chunk in enumerate(chunks) if chunk != "O")
            assert sentence.labels["upos"][last] in ("VERB", "AUX"), sentence.text


def test_spanish_determiners_and_adjectives_agree_with_their_noun() -> None:
    cells: dict[str, set[str]] = {}
    for row in _rows("es", "nouns"):
        for number, form in (("sing", row["singular"]), ("plur", row["plural"])):
            cells.setdefault(form, set()).add(f"{row['gender'].lower()}_{number}")
    columns = {
        "masc_sing": "masculine",
        "fem_sing": "feminine",
        "masc_plur": "masculine_plural",
        "fem_plur": "feminine_plural",
    }
    determiners, adjectives = _rows("es", "determiners"), _rows("es", "adjectives")
    for sentence, place in _pairs("es", "DET", "NOUN"):
        article, noun = _lower_first(sentence, place), sentence.words[place + 1]
        assert any(row[cell] == article for row in determiners for cell in cells[noun]), sentence.text
    for sentence, place in _pairs("es", "NOUN", "ADJ"):
        noun, adjective = sentence.words[place], sentence.words[place + 1]
        if sentence.labels["role"][place + 1] == "amod":
            noun = noun if place else noun.lower()
            assert any(row[columns[cell]] == adjective for row in adjectives for cell in cells[noun]), sentence.text


@pytest.mark.parametrize(("language", "pair"), [("de", "in dem"), ("de", "zu der"), ("es", "a el"), ("es", "de el")])
def test_prepositions_and_articles_run_together(language: str, pair: str) -> None:
    assert not [sentence.text for sentence in _sample(language) if f" {pair} " in f" {sentence.text.lower()} "]


@pytest.mark.parametrize(
    ("language", "word", "readings"),
    [
        ("en", "walk", {"NOUN", "VERB"}),
        ("en", "that", {"DET", "PRON", "SCONJ"}),
        ("en", "clean", {"ADJ", "VERB"}),
        ("de", "der", {"DET", "PRON"}),
        ("de", "ein", {"DET", "ADP"}),
        ("es", "la", {"DET", "PRON"}),
        ("es", "visita", {"NOUN", "VERB"}),
    ],
)
def test_some_words_need_their_context_to_be_told_apart(language: str, word: str, readings: set[str]) -> None:
    found = {
        sentence.labels["upos"][place]
        for sentence in _sample(language)
        for place, form in enumerate(sentence.words)
        if form == word
    }
    assert found == readings


def test_suffixes_are_endings_of_their_words_in_english_and_german() -> None:
    for language in ("en", "de"):
        for sentence in _sample(language):
            for word, suffix in zip(sentence.words, sentence.labels["suffix"], strict=True):
                assert suffix == "_" or word.endswith(suffix[1:]), (word, suffix)


@languages
def test_conllu_keeps_words_labels_and_text(language: str) -> None:
    sentences = _sample(language)[:50]
    blocks = to_conllu(sentences).strip().split("\n\n")
    assert len(blocks) == len(sentences)
    for block, sentence in zip(blocks, sentences, strict=True):
        lines = block.split("\n")
        rows = [line.split("\t") for line in lines[2:]]
        assert lines[1] == f"# text = {sentence.text}"
        assert all(len(row) == 10 for row in rows)
        assert [row[0] for row in rows] == [str(number) for number in range(1, len(rows) + 1)]
        assert tuple(row[1] for row in rows) == sentence.words
        assert tuple(row[3] for row in rows) == sentence.labels["upos"]
        assert tuple(row[7] for row in rows) == sentence.labels["role"]
        chunks = [dict(pair.split("=") for pair in row[9].split("|"))["Chunk"] for row in rows]
        assert tuple(chunks) == sentence.labels["chunk"]
        rebuilt = "".join(row[1] + ("" if "SpaceAfter=No" in row[9] else " ") for row in rows).strip()
        assert rebuilt == sentence.text


def test_an_unknown_language_is_refused_with_the_choices() -> None:
    with pytest.raises(LexiconError, match="'fr': choose one of en, de, es"):
        generate("fr", 1, 0)


def test_a_negative_count_is_refused() -> None:
    with pytest.raises(ValueError, match="count is -1"):
        generate("en", -1, 0)
