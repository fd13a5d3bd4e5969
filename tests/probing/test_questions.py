"""Questions: which words a model is asked for, how, and which class each token of its vocabulary is of."""

from __future__ import annotations

import polars as pl
import pytest

import neuronatlas as na
from neuronatlas.models import InterventionError
from neuronatlas.probing.corpora import Corpus, Sentence
from neuronatlas.probing.questions import Questions, ask


@pytest.fixture(scope="module")
def specimen() -> na.Model:
    return na.load(na.specimen_folder())


def corpus(*sentences: tuple[str, str]) -> Corpus:
    """Words and labels as they stand in two strings; `_` is no label."""
    made = []
    for index, (words, labels) in enumerate(sentences):
        given = [None if label == "_" else label for label in labels.split()]
        made.append(Sentence.of(words.split(), given, source=f"line {index + 1}"))
    return Corpus(tuple(made), label="upos")


def asked(model: na.Model, given: Corpus, per_class: int = 50, min_words: int = 1, seed: int = 0) -> Questions:
    return ask(model, given, per_class=per_class, min_words=min_words, seed=seed, progress=False)


def test_the_mask_stands_in_the_words_place_and_nothing_else_changes(specimen: na.Model) -> None:
    given = corpus(("The cat sleeps .", "DET NOUN VERB PUNCT"))
    whole = specimen.tokenizer("The cat sleeps .").input_ids
    for question, place in zip(asked(specimen, given).asked, (1, 2, 3, 4), strict=True):
        masked = list(whole)
        masked[place] = specimen.tokenizer.mask_token_id
        assert list(question.ids) == masked
        assert (question.place, question.token) == (place, whole[place])
        assert question.label == given.labels[question.item]


def test_words_of_several_tokens_are_left_out_and_told(specimen: na.Model) -> None:
    found = asked(specimen, corpus(("The xylophones sleep .", "DET NOUN VERB PUNCT"), ("A cat .", "DET NOUN PUNCT")))
    assert [question.item for question in found.asked] == [0, 2, 3, 4, 5, 6]
    assert found.coverage.filter(several_tokens=1)["class"].to_list() == ["NOUN"]
    assert found.coverage.row(by_predicate=pl.col("class") == "NOUN")[1] == 2
    assert any("1 of 7 labelled words are several tokens" in note for note in found.notes)


def test_a_tokens_class_is_the_most_frequent_one_of_its_words(specimen: na.Model) -> None:
    found = asked(
        specimen,
        corpus(
            ("walk walk walk", "VERB NOUN VERB"),
            ("house house", "NOUN ADJ"),
            ("cold cold cold", "_ ADJ _"),
            ("run run", "_ NOUN"),
        ),
    )
    vocabulary = specimen.tokenizer.get_vocab()
    of = {word: found.token_classes[vocabulary[word]] for word in ("walk", "house", "cold", "run")}
    # Ties go to the class that is first by name, and to any class before none.
    assert of == {"walk": "VERB", "house": "ADJ", "cold": None, "run": "NOUN"}
    table = found.membership(len(vocabulary))
    assert table.sum(axis=1).max() == 1
    assert table[vocabulary["cold"]].sum() == 0
    assert table[vocabulary["Paris"]].tolist() == [0] * len(found.classes) + [1]


def test_classes_are_balanced_up_to_the_cap_and_small_ones_are_left_out(specimen: na.Model) -> None:
    line = ("The cat sleeps and the dog runs and eats .", "DET NOUN VERB CCONJ DET NOUN VERB CCONJ VERB PUNCT")
    found = asked(specimen, corpus(line, line, line), per_class=4, min_words=6)
    assert found.classes == ("CCONJ", "DET", "NOUN", "VERB")
    assert found.coverage.sort("class")["n_asked"].to_list() == [4, 4, 4, 0, 4]
    assert "classes with fewer than 6 words to ask for were left out: PUNCT" in found.notes
    assert [q.item for q in found.asked] == sorted(q.item for q in found.asked)
    assert ask(
        specimen, corpus(line, line, line), per_class=4, min_words=6, seed=0, progress=False, only=["VERB"]
    ).asked == tuple(question for question in found.asked if question.label == "VERB")
    others = [asked(specimen, corpus(line, line, line), per_class=4, min_words=6, seed=seed) for seed in (0, 1)]
    assert others[0].asked == found.asked
    assert others[1].asked != found.asked


def test_a_word_beyond_the_models_length_is_not_asked_for(specimen: na.Model) -> None:
    long = " ".join(["cat"] * 100)
    found = asked(specimen, corpus((long, " ".join(["NOUN"] * 100))), per_class=200)
    assert [question.item for question in found.asked] == list(range(specimen.max_length - 2))
    assert found.coverage["no_place"].item() == 100 - (specimen.max_length - 2)
    assert any("have no place of their own" in note for note in found.notes)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            Corpus(
                (Sentence("A cat.", ("A", "cat"), ((0, 1), (2, 5)), ("good",), "note"),), "mood", "sentence", "notes"
            ),
            "^the labels of notes are of whole sentences",
        ),
        (corpus(("xylophones xylophones", "NOUN NOUN")), "^no class of 'upos' has 1 words that .* can be asked for"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_one_line(specimen: na.Model, given: Corpus, message: str) -> None:
    with pytest.raises(InterventionError, match=message) as error:
        asked(specimen, given)
    assert "\n" not in str(error.value)
