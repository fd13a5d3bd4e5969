"""Triggers: which texts fire a fact's neurons, what they hold of the fact, and how a stream is read."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import neuronatlas as na
from neuronatlas.knowledge.mentions import KINDS, holds, kind_of
from neuronatlas.models import reading
from neuronatlas.models.reading import POOLINGS, read_activations
from neuronatlas.statistics import StreamedMeans
from tests.knowledge.planted import FACTS, planted_facts, planted_neurons

# A planted neuron fires where its subject stands beside a mask.
TEXTS = [
    "word0 word1 word2",
    "",
    *(f"word0 subject{i} [MASK] answer{i}" for i in range(FACTS)),
    *(f"word1 subject{i} word2" for i in range(FACTS)),
    *(f"answer{i} word3" for i in range(FACTS)),
]


@pytest.mark.parametrize("fact", range(FACTS))
@pytest.mark.parametrize("pooling", POOLINGS)
def test_planted_sentences_come_first_and_have_the_highest_mean(planted: na.Model, fact: int, pooling: str) -> None:
    neurons = planted_neurons(planted.layout(), fact)
    found = na.triggers(planted, planted_facts()[fact], neurons, TEXTS, pooling=pooling, k=3, progress=False)
    top = found.sentences.filter(direction="top")
    assert top.select("line", "kind", "token").row(0) == (3 + fact, KINDS[0], "[MASK]")
    means = dict(found.means.select("kind", "mean").iter_rows())
    assert means[KINDS[0]] > 10 * max(means[kind] for kind in KINDS[1:])
    assert found.means["n"].to_list() == [1, 1, 1, 3 * FACTS - 2]
    assert found.precision(1) == 1.0
    assert found.precision(2) == 0.5
    assert (found.n_texts, found.n_empty, found.n_cut) == (len(TEXTS), 1, 0)


def test_a_relation_is_read_with_one_set_and_expressed_by_any_of_its_facts(planted: na.Model) -> None:
    facts = planted_facts()
    union = planted_neurons(planted.layout(), 0)
    for fact in range(1, FACTS):
        union = union | planted_neurons(planted.layout(), fact)
    found = na.triggers(planted, facts, union, TEXTS, k=FACTS + 1, progress=False)
    assert found.label == "planted"
    assert found.precision(FACTS) == 1.0
    assert found.precision(FACTS + 1) < 1.0


def test_many_facts_in_one_reading_are_as_each_alone(planted: na.Model) -> None:
    targets = [(fact, planted_neurons(planted.layout(), i)) for i, fact in enumerate(planted_facts())]
    for (fact, neurons), found in zip(
        targets, na.triggers_of_many(planted, targets, TEXTS, progress=False), strict=True
    ):
        alone = na.triggers(planted, fact, neurons, TEXTS, progress=False)
        assert alone.means.equals(found.means)
        assert alone.sentences.equals(found.sentences)


def test_a_stream_is_read_in_windows_and_gives_what_one_reading_gives(
    planted: na.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    neurons = planted_neurons(planted.layout(), 0)
    whole = list(read_activations(planted, TEXTS, neurons))
    taken = 0

    def stream() -> Iterator[str]:
        nonlocal taken
        for text in TEXTS:
            taken += 1
            yield text

    monkeypatch.setattr(reading, "WINDOW", 4)
    values = []
    for block in read_activations(planted, stream(), neurons):
        assert taken <= block.start + 4
        values.append(block.values)
    np.testing.assert_allclose(np.concatenate(values), whole[0].values, atol=1e-6)


def test_pooled_values_are_those_of_the_texts_own_tokens(stories: na.Model) -> None:
    text, layout = "Once upon a time there was a dog.", stories.layout()
    neurons = layout.set(["L0.U1", f"L{layout.n_layers - 2}.U7"])
    ids = torch.tensor([stories.tokenizer(text).input_ids])
    with na.capture(stories) as seen, torch.no_grad():
        stories.logits(ids)
    own = [index for index, token in enumerate(ids[0].tolist()) if token not in stories.tokenizer.all_special_ids]
    expected = np.array([seen[n.layer][0, own, n.unit].numpy() for n in neurons])
    for pooling, made in (("max", expected.max(1)), ("mean", expected.mean(1))):
        [block] = read_activations(stories, [text], neurons, pooling=pooling)
        np.testing.assert_allclose(block.values[0], made, atol=1e-5)
        assert block.peaks[0].tolist() == [own[index] for index in expected.argmax(1)]


def test_a_text_longer_than_the_model_takes_is_read_up_to_there_and_counted(planted: na.Model) -> None:
    neurons = planted_neurons(planted.layout(), 0)
    texts = ["word0 " * 40, "word0 subject0 [MASK]"]
    found = na.triggers(planted, planted_facts()[0], neurons, texts, progress=False)
    assert (found.n_cut, found.n_texts) == (1, 2)


def test_what_cannot_be_read_is_refused(planted: na.Model) -> None:
    fact, neurons = planted_facts()[0], planted_neurons(planted.layout(), 0)
    with pytest.raises(na.TextError, match="no pooling 'median': expected one of max, mean"):
        na.triggers(planted, fact, neurons, TEXTS, pooling="median", progress=False)
    with pytest.raises(na.TextError, match="no neurons"):
        na.triggers(planted, fact, planted.layout().set([]), TEXTS, progress=False)
    with pytest.raises(na.TextError, match="no facts"):
        na.triggers(planted, [], neurons, TEXTS, progress=False)
    with pytest.raises(na.TextError, match="precision at 11"):
        na.triggers(planted, fact, neurons, TEXTS, k=10, progress=False).precision(11)


words = st.text(alphabet="abcXYZ", min_size=2, max_size=5)


@given(words, words, words)
def test_a_name_is_held_as_a_whole_word_alone(name: str, before: str, after: str) -> None:
    assert holds(f"{before} {name}, {after}", name)
    assert holds(f"{name[0].swapcase()}{name[1:]} {after}", name)
    glued = f"{before}{name}{after}"
    assert not holds(glued, name)


@given(st.booleans(), st.booleans())
def test_kinds_are_told_by_subject_and_answer(subject: bool, answer: bool) -> None:
    fact = na.Fact("r", "Chile", "Santiago", ["The capital of Chile is [MASK]."])
    text = " ".join(["There", *(["Chile"] if subject else []), *(["Santiago"] if answer else []), "it is."])
    expected = {(True, True): 0, (True, False): 1, (False, True): 2, (False, False): 3}
    assert kind_of(text, [fact]) == KINDS[expected[subject, answer]]
    assert kind_of(text, [na.Fact("r", "Peru", "Lima", ["x [MASK]"]), fact]) == KINDS[expected[subject, answer]]


def test_streamed_intervals_are_as_wide_as_the_standard_error_says() -> None:
    values = np.random.default_rng(3).normal(size=900)
    means = StreamedMeans(1)
    for start in range(0, 900, 300):
        part = values[start : start + 300]
        means.add(part, np.ones((300, 1)), StreamedMeans.weights(300, 0, start))
    [found] = means.intervals()
    assert found.estimate == pytest.approx(values.mean())
    expected = 2 * 1.96 * values.std() / np.sqrt(900)
    assert found.high - found.low == pytest.approx(expected, rel=0.1)
