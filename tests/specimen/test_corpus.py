"""The training text, its tokens and its batches."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from transformers import BertTokenizer

from neuronatlas.specimen import corpus
from neuronatlas.specimen.batches import encode_rows, epoch_batches, vocabulary_of
from neuronatlas.specimen.compose import compositions
from neuronatlas.specimen.corpus import KINDS, Row, training_rows
from neuronatlas.specimen.kind import Kind
from neuronatlas.specimen.tokenizer import VOCABULARY, build_tokenizer
from neuronatlas.specimen.train import KINDS as KINDS_OF_MODEL
from neuronatlas.specimen.world import AT_THE_END, facts, sentences

SEED = 3


@pytest.fixture(scope="module", autouse=True)
def few_plain_sentences() -> Iterator[None]:
    """A hundredth of the grammar's sentences, to be quick; all that is said of facts stays whole."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(corpus, "GRAMMAR_SENTENCES", {"en": 120, "de": 60, "es": 60})
        yield


@pytest.fixture(scope="module")
def rows(few_plain_sentences: None) -> tuple[Row, ...]:
    return training_rows(SEED)


@pytest.fixture(scope="module")
def tokenizer(rows: tuple[Row, ...]) -> BertTokenizer:
    return build_tokenizer(row.text for row in rows)


def test_the_same_seed_writes_the_same_text_and_another_seed_another(rows: tuple[Row, ...]) -> None:
    assert training_rows(SEED) == rows
    assert training_rows(SEED + 1) != rows


def test_no_held_out_template_is_in_the_training_text(rows: tuple[Row, ...]) -> None:
    held_out = {s.text for fact in facts() for s in sentences(fact, held_out=True)}
    asked = {row.asked.text for row in rows if row.asked}
    assert not held_out & asked
    assert not held_out & {row.text for row in rows}


def test_no_held_out_composition_is_in_the_training_text(rows: tuple[Row, ...]) -> None:
    assert not {c.sentence.text for c in compositions() if c.held_out} & {row.text for row in rows}


def test_every_fact_is_in_the_training_text(rows: tuple[Row, ...]) -> None:
    texts = {row.text for row in rows}
    assert all(s.text in texts for fact in facts() for s in sentences(fact, held_out=False))


def test_all_that_the_causal_one_is_asked_ends_in_its_answer() -> None:
    rows = training_rows(SEED, AT_THE_END)
    asked = [row.asked for row in rows if row.kind == "fact" and row.asked]
    assert all(sentence.ends_in_answer for sentence in asked)
    held_out = {s.text for fact in facts() for s in sentences(fact, held_out=True, wordings=AT_THE_END)}
    assert not held_out & {row.text for row in rows}


def test_all_kinds_of_rows_are_there(rows: tuple[Row, ...]) -> None:
    assert {row.kind for row in rows} == set(KINDS)


def test_every_one_word_answer_is_one_token(tokenizer: BertTokenizer) -> None:
    assert len(tokenizer) <= VOCABULARY
    split = {f.answer for f in facts() if f.is_one_word and len(tokenizer.tokenize(f.answer)) != 1}
    assert not split


def test_no_word_of_an_answer_is_split(tokenizer: BertTokenizer) -> None:
    pieces = {piece for fact in facts() for piece in tokenizer.tokenize(fact.answer)}
    assert not {piece for piece in pieces if piece.startswith("##") or piece == tokenizer.unk_token}


def test_the_same_text_gives_the_same_tokenizer(rows: tuple[Row, ...], tokenizer: BertTokenizer) -> None:
    assert build_tokenizer(row.text for row in rows).get_vocab() == tokenizer.get_vocab()


def test_text_it_has_never_seen_has_no_unknown_token(tokenizer: BertTokenizer) -> None:
    assert tokenizer.unk_token not in tokenizer.tokenize("Überraschungen in Åre: “zyxw” – ¿qué coño? 3½ × €7…")


def test_an_asked_row_hides_its_answer_and_nothing_of_its_subject(
    rows: tuple[Row, ...], tokenizer: BertTokenizer
) -> None:
    asked = [row for row in rows if row.kind == "fact"][::500]
    encoded = encode_rows(asked, tokenizer)
    for group in encoded.by_length.values():
        for row, answer in zip(group.ids, group.answer, strict=True):
            written = str(tokenizer.decode(row[answer]))
            assert written.replace(" ", "") in {r.asked.answer.replace(" ", "") for r in asked if r.asked}
        assert (group.frozen & group.answer == group.answer).all()


@pytest.mark.parametrize("kind", KINDS_OF_MODEL.values(), ids=KINDS_OF_MODEL)
def test_batches_are_unpadded_hidden_and_the_same_for_the_same_epoch(
    kind: Kind, rows: tuple[Row, ...], tokenizer: BertTokenizer
) -> None:
    encoded, vocabulary = encode_rows(rows[::40], tokenizer), vocabulary_of(tokenizer)
    first = list(epoch_batches(encoded, kind.hide, vocabulary, SEED, 0))
    again = list(epoch_batches(encoded, kind.hide, vocabulary, SEED, 0))
    assert all(torch.equal(a.ids, b.ids) and torch.equal(a.places, b.places) for a, b in zip(first, again, strict=True))
    later = list(epoch_batches(encoded, kind.hide, vocabulary, SEED, 1))
    assert any(a.ids.shape != b.ids.shape or not torch.equal(a.ids, b.ids) for a, b in zip(first, later, strict=False))
    for batch in first:
        assert not (batch.ids == tokenizer.pad_token_id).any()
        assert not (batch.targets == vocabulary.mask).any()
        assert set(np.unique(batch.places // batch.ids.shape[1])) == set(range(len(batch.ids)))
