"""Interventions: neurons that a model uses for a property are told from those that only carry it."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from polars.testing import assert_frame_equal
from transformers import GPT2Config, GPT2LMHeadModel

import neuronatlas as na
from neuronatlas.models import InterventionError
from neuronatlas.neurons import LayoutMismatchError
from neuronatlas.probing.activations import Activations, ActivationsError
from neuronatlas.probing.corpora import Corpus, Sentence
from neuronatlas.probing.extraction import extract
from neuronatlas.probing.interventions import MEASURES, PropertyEffects, class_effects, property_effects
from neuronatlas.probing.questions import ask
from neuronatlas.specimen.grammar import generate
from neuronatlas.statistics import benjamini_hochberg
from tests.probing.planted_property import VOCABULARY, idle, planted_corpus, planted_model, used


@pytest.fixture(scope="module")
def planted() -> tuple[na.Model, Corpus, Activations]:
    model, corpus = planted_model(), planted_corpus()
    return model, corpus, extract(model, corpus, "ffn", progress=False)


def grammar_corpus(n: int, label: str = "upos", seed: int = 5) -> Corpus:
    sentences = []
    for index, made in enumerate(generate("en", n, seed=seed)):
        labels = [None if value == "_" else value for value in made.labels[label]]
        sentences.append(Sentence.of(made.words, labels, source=f"sentence {index + 1}"))
    return Corpus(tuple(sentences), label=label)


@pytest.fixture(scope="module")
def specimen() -> tuple[na.Model, Corpus, Activations]:
    model, corpus = na.load(na.specimen_folder()), grammar_corpus(60)
    return model, corpus, extract(model, corpus, "ffn", progress=False)


def effects(given: tuple[na.Model, Corpus, Activations], neurons: na.NeuronSet, **options: Any) -> PropertyEffects:
    return property_effects(*given, neurons, progress=False, **options)


def mass(found: PropertyEffects) -> pl.DataFrame:
    return found.classes.filter(measure="class_mass")


def test_neurons_that_the_model_uses_take_their_classes_mass_with_them(
    planted: tuple[na.Model, Corpus, Activations],
) -> None:
    found = mass(effects(planted, used(planted[0].layout())))
    assert found["class"].to_list() == ["class0", "class1"]
    assert (found["before"] > 0.8).all()
    # With the class gone, the words of both are left with about the same.
    assert (found["high"] < -0.4).all()
    assert (found["control_low"] > -0.001).all()
    assert found["p_adjusted"].to_list() == [1 / 21, 1 / 21]


def test_neurons_that_carry_a_class_to_no_end_change_nothing(planted: tuple[na.Model, Corpus, Activations]) -> None:
    model, corpus, acts = planted
    carried = acts.chosen(columns=idle(model.layout())).array()
    of_class = acts.align(corpus.labels)[1]
    told = carried[[label is not None for label in corpus.labels]]
    assert told[of_class == "class0", 0].min() > told[of_class == "class1", 0].max()
    found = mass(effects(planted, idle(model.layout())))
    assert (found["change"].abs() < 1e-4).all()
    assert (found["p"] > 0.5).all()


def by_hand(model: na.Model, found: PropertyEffects, corpus: Corpus, run: int, classes: dict[int, str]) -> None:
    """Compare the measures of every word with those of a pass of its own."""
    when = "before" if run == 0 else "after"
    for row in found.words.iter_rows(named=True):
        sentence = corpus.sentences[row["sentence"]]
        word = row["item"] - int(np.searchsorted(corpus.sentence_of, row["sentence"]))
        encoded = model.tokenizer(sentence.text, return_offsets_mapping=True)
        place = next(
            i for i, (start, end) in enumerate(encoded.offset_mapping) if start == sentence.spans[word][0] < end
        )
        ids = list(encoded.input_ids)
        gold = ids[place]
        if model.kind == "masked":
            ids[place] = model.tokenizer.mask_token_id
        else:
            ids, place = ids[:place], place - 1
        with torch.no_grad():
            shares = model.logits(torch.tensor([ids]))[0, place].double().softmax(-1)
        of_class = [token for token, name in classes.items() if name == row["class"]]
        assert row[f"class_mass_{when}"] == pytest.approx(float(shares[of_class].sum()), rel=1e-4)
        assert row[f"p_gold_{when}"] == pytest.approx(float(shares[gold]), rel=1e-4)
        assert row[f"log_p_gold_{when}"] == pytest.approx(float(shares[gold].log()), rel=1e-4, abs=1e-6)
        assert row[f"top_in_class_{when}"] == float(int(shares.argmax()) in of_class)
        assert row[f"top_{when}"] == model.tokenizer.convert_ids_to_tokens(int(shares.argmax()))
        known = torch.zeros_like(shares)
        known[list(classes)] = 1
        assert row[f"unknown_{when}"] == pytest.approx(1 - float((shares * known).sum()), abs=1e-5)


@pytest.mark.parametrize("site", ["ffn", "hidden"])
def test_measures_equal_those_of_one_word_at_a_time(specimen: tuple[na.Model, Corpus, Activations], site: str) -> None:
    model, corpus, _ = specimen
    acts = extract(model, corpus, site, progress=False)
    layout = model.layout(site)
    neurons = layout.set(na.Neuron(layer, unit) for layer in range(layout.n_layers) for unit in range(0, 30, 3))
    found = property_effects(model, corpus, acts, neurons, n_controls=2, per_class=3, progress=False)
    asked = ask(model, corpus, per_class=3, min_words=10, seed=0, progress=False)
    classes = {token: str(name) for token, name in asked.token_classes.items()}
    by_hand(model, found, corpus, 0, classes)
    means = acts.array().mean(axis=0, dtype=np.float64)[[layout.index(neuron) for neuron in neurons]]
    with na.set_values(model, neurons, torch.from_numpy(means)):
        by_hand(model, found, corpus, 1, classes)


@pytest.fixture(scope="module")
def causal() -> tuple[na.Model, Corpus, Activations]:
    """A GPT-2 of random weights, which move its predictions."""
    tokenizer = planted_model().tokenizer
    config = GPT2Config(vocab_size=len(VOCABULARY), n_embd=32, n_layer=2, n_head=2, n_positions=16)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = GPT2LMHeadModel(config)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(4 if parameter.ndim > 1 else 1)
    model, corpus = na.load((module, tokenizer)), planted_corpus(24)
    return model, corpus, extract(model, corpus, "ffn", progress=False)


def test_a_causal_model_is_asked_for_the_next_word_after_what_stands_before_it(
    causal: tuple[na.Model, Corpus, Activations],
) -> None:
    model, corpus, acts = causal
    layout = model.layout()
    neurons = layout.set(na.Neuron(1, unit) for unit in range(20))
    found = effects(causal, neurons, n_controls=2, per_class=12)
    classes = {VOCABULARY.index(word): f"class{word[4]}" for word in VOCABULARY if word.startswith("word")}
    classes |= {VOCABULARY.index(word): "none" for word in (".", "cue0", "cue1")}
    by_hand(model, found, corpus, 0, classes)
    means = acts.array().mean(axis=0, dtype=np.float64)[[layout.index(neuron) for neuron in neurons]]
    with na.set_values(model, neurons, torch.from_numpy(means)):
        by_hand(model, found, corpus, 1, classes)


def test_random_neurons_get_p_values_spread_over_the_scale(causal: tuple[na.Model, Corpus, Activations]) -> None:
    model, corpus, acts = causal
    layout, p_values = model.layout(), []
    # Sentences of one length, which go through the model together.
    alike = corpus.take([index for index, sentence in enumerate(corpus.sentences) if len(sentence.words) == 5])
    for seed in range(30):
        chosen = np.random.default_rng(seed).choice(layout.n_neurons, size=20, replace=False)
        neurons = layout.set(layout.neuron(int(index)) for index in chosen)
        found = effects((model, alike, acts), neurons, n_controls=9, seed=seed)
        p_values.append(found.overall.filter(measure="class_mass")["p"].item())
    # Each of the ten values is as likely: the mean of 30 has a standard deviation of 0.052 about 0.55.
    assert 0.55 - 0.16 < np.mean(p_values) < 0.55 + 0.16
    assert np.mean(np.array(p_values) <= 0.1) <= 0.3


def test_a_value_takes_the_place_of_the_means(planted: tuple[na.Model, Corpus, Activations]) -> None:
    model, corpus, _ = planted
    found = effects(planted, used(model.layout()), value=0.0, n_controls=2)
    row = found.words.row(0, named=True)
    words = [word if index != row["item"] else "[MASK]" for index, word in enumerate(corpus.sentences[0].words)]
    ids = torch.tensor([model.tokenizer(" ".join(words)).input_ids])
    with torch.no_grad(), na.suppress(model, used(model.layout())):
        shares = model.logits(ids)[0, row["item"] + 1].softmax(-1)
    assert row["p_gold_after"] == pytest.approx(float(shares[VOCABULARY.index(row["word"])]), rel=1e-5)
    assert effects(planted, used(model.layout()), n_controls=2).words["p_gold_after"][0] != row["p_gold_after"]


def state(model: na.Model) -> object:
    weights = {name: tensor.numpy().tobytes() for name, tensor in model.module.state_dict().items()}
    hooks = [(len(m._forward_hooks), len(m._forward_pre_hooks), m.training) for m in model.module.modules()]
    patched = [name for name, m in model.module.named_modules() if "forward" in m.__dict__]
    return weights, hooks, patched, list(model.intervened_sites), model.digest


@pytest.mark.parametrize("passes", [None, 1, 2, 5])
def test_the_model_is_bit_for_bit_what_it_was(
    planted: tuple[na.Model, Corpus, Activations], passes: int | None
) -> None:
    model, calls = planted[0], [0]
    before, logits = state(model), model.logits(model.probe_ids)

    def fail(*_: Any) -> None:
        calls[0] += 1
        if calls[0] == passes:
            raise MemoryError("no room")

    handle = model.module.register_forward_pre_hook(fail)
    try:
        with pytest.raises(MemoryError) if passes else nullcontext():
            effects(planted, used(model.layout()), n_controls=2)
    finally:
        handle.remove()
    assert calls[0] == passes or (passes is None and calls[0] > 5)
    assert state(model) == before
    assert torch.equal(model.logits(model.probe_ids), logits)


def test_the_same_seed_gives_the_same_tables(planted: tuple[na.Model, Corpus, Activations]) -> None:
    neurons = used(planted[0].layout())
    first, again = (effects(planted, neurons, n_controls=3, per_class=10, seed=4) for _ in range(2))
    for table in ("classes", "overall", "controls", "words", "coverage"):
        assert_frame_equal(getattr(first, table), getattr(again, table), check_exact=True)
    assert first.notes == again.notes


def test_tables_agree_with_each_other(specimen: tuple[na.Model, Corpus, Activations]) -> None:
    layout = specimen[0].layout()
    neurons = layout.set(na.Neuron(3, unit) for unit in range(0, 300, 4))
    found = effects(specimen, neurons, n_controls=5, per_class=10)
    for measure in MEASURES:
        rows = found.classes.filter(measure=measure)
        means = found.words.group_by("class").agg(
            before=pl.col(f"{measure}_before").mean(), after=pl.col(f"{measure}_after").mean(), n_words=pl.len()
        )
        joined = rows.join(means, on="class", suffix="_words")
        assert len(joined) == len(rows)
        assert np.allclose(joined["before"], joined["before_words"])
        assert np.allclose(joined["after"], joined["after_words"])
        assert joined["n_words"].to_list() == joined["n_words_words"].to_list()
        assert np.allclose(rows["change"], rows["after"] - rows["before"])
        assert (rows["low"] <= rows["change"] + 1e-12).all()
        assert (rows["change"] <= rows["high"] + 1e-12).all()
        drawn = found.controls.filter(measure=measure)
        for row in rows.iter_rows(named=True):
            changes = drawn.filter(pl.col("class") == row["class"])["change"].to_numpy()
            assert len(changes) == 5
            assert row["control_change"] == pytest.approx(changes.mean(), abs=1e-12)
            assert (row["control_low"], row["control_high"]) == (changes.min(), changes.max())
            assert row["p"] == (1 + sum(changes <= row["change"])) / 6
            spread = changes.std(ddof=1)
            apart = (row["change"] - changes.mean()) / spread if spread else float("nan")
            assert row["z"] == pytest.approx(apart, nan_ok=True)
        assert np.allclose(rows["p_adjusted"], benjamini_hochberg(rows["p"].to_numpy()))
        overall = found.overall.filter(measure=measure).row(0, named=True)
        assert overall["change"] == pytest.approx(rows["change"].mean())
        assert overall["n_words"] == len(found.words)
    assert any("no p is below 0.167" in note for note in found.notes)
    assert any("after correction at 0.05 a class can differ only in no case" in note for note in found.notes)


def test_intervals_resample_sentences_and_not_words() -> None:
    model = planted_model()
    line = Sentence.of(["cue0", "word0_1", "."], [None, "class0", None], "one")
    other = Sentence.of(["cue1", *["word1_1"] * 4, "."], [None, *["class1"] * 4, None], "two")
    corpus = Corpus((line, other, other), label="planted")
    acts = extract(model, corpus, "ffn", progress=False)
    found = mass(effects((model, corpus, acts), used(model.layout()), n_controls=2, min_words=1))
    # One sentence, or equal ones, leave nothing to resample.
    assert np.allclose(found["low"], found["change"])
    assert np.allclose(found["high"], found["change"])
    assert found["n_sentences"].to_list() == [1, 2]


def test_controls_are_drawn_among_the_neurons_that_are_held(planted: tuple[na.Model, Corpus, Activations]) -> None:
    model, corpus, acts = planted
    layout = model.layout()
    held = acts.chosen(columns=used(layout) | idle(layout))
    found = property_effects(model, corpus, held, used(layout), n_controls=6, progress=False)
    assert found.controls["variance_ratio"].to_list() == pytest.approx([1.0] * len(found.controls))
    assert (found.controls["change"].abs() < 1e-3).all()


def test_what_does_not_belong_together_is_refused(planted: tuple[na.Model, Corpus, Activations]) -> None:
    model, corpus, acts = planted
    layout = model.layout()
    with pytest.raises(LayoutMismatchError):
        effects(planted, replace(layout, digest="other").set(["L1.U0"]))
    with pytest.raises(LayoutMismatchError):
        property_effects(model, corpus, extract(model, corpus, "hidden", progress=False), used(layout), progress=False)
    with pytest.raises(InterventionError, match=r"^0 neurons, 20 controls, 50 words a class: at least one of each"):
        effects(planted, layout.set([]))
    with pytest.raises(ActivationsError, match="is not among the 2 neurons of these activations"):
        property_effects(model, corpus, acts.chosen(columns=idle(layout)), used(layout), progress=False)
    broken = Activations.of(np.full((3, layout.n_neurons), np.inf), layout)
    with pytest.raises(
        InterventionError, match=r"^no means to put in the neurons' place: some activations are not finite"
    ):
        property_effects(model, corpus, broken, used(layout), progress=False)
    with pytest.raises(InterventionError, match=r"^no means to put in the neurons' place: there are no activations"):
        property_effects(model, corpus, acts.chosen(rows=[]), used(layout), progress=False)


def test_controls_that_cannot_match_the_variance_are_told(specimen: tuple[na.Model, Corpus, Activations]) -> None:
    layout, variances = specimen[0].layout(), specimen[2].array()[:, -1024:].var(axis=0)
    greatest = layout.set(na.Neuron(3, int(unit)) for unit in np.argsort(-variances)[:100])
    ordinary = layout.set(na.Neuron(3, int(unit)) for unit in np.argsort(-variances)[100:300:2])
    told = [
        any(
            "no other neurons that vary as much" in note
            for note in effects(specimen, set_, n_controls=2, per_class=2).notes
        )
        for set_ in (greatest, ordinary)
    ]
    assert told == [True, False]


def own_neurons(layout: na.Layout) -> dict[str, na.NeuronSet]:
    return {f"class{kind}": layout.set([na.Neuron(1, kind)]) for kind in range(2)}


def test_a_class_own_neurons_are_told_from_those_of_another(planted: tuple[na.Model, Corpus, Activations]) -> None:
    # Suppressed, since the mean of one class's neuron is much to words of the other, whose it is not.
    own = class_effects(*planted, own_neurons(planted[0].layout()), value=0.0, progress=False)
    assert (own.classes.filter(measure="class_mass")["high"] < -0.4).all()
    assert own.classes.filter(measure="class_mass")["p_adjusted"].to_list() == [1 / 21, 1 / 21]
    assert own.classes["n_neurons"].to_list() == [1] * len(own.classes)
    across = own.across.filter(measure="class_mass")
    assert across.select("replaced", "class").rows() == [(a, b) for a in own.neurons for b in own.neurons]
    alone = across.filter(pl.col("replaced") == pl.col("class"))
    assert alone["change"].to_list() == pytest.approx(own.classes.filter(measure="class_mass")["change"].to_list())
    assert (across.filter(pl.col("replaced") != pl.col("class"))["change"].abs() < 1e-6).all()


def test_each_class_is_measured_as_if_its_neurons_were_the_whole_set(
    specimen: tuple[na.Model, Corpus, Activations],
) -> None:
    model, whole_corpus, acts = specimen
    corpus = whole_corpus.relabelled(
        "upos", lambda sentence: [label if label in ("DET", "VERB") else None for label in sentence.labels]
    )
    layout = model.layout()
    sets = {
        "VERB": layout.set(na.Neuron(3, unit) for unit in range(40)),
        "DET": layout.set(na.Neuron(2, unit) for unit in range(100, 160)),
        "ADV": layout.set([]),
    }
    found = class_effects(model, corpus, acts, sets, n_controls=3, per_class=8, seed=6, progress=False)
    assert list(found.neurons) == found.classes.filter(measure="p_gold")["class"].to_list() == ["DET", "VERB"]
    assert set(found.words["class"]) == {"DET", "VERB"}
    for name in ("DET", "VERB"):
        whole = property_effects(model, corpus, acts, sets[name], n_controls=3, per_class=8, seed=6, progress=False)
        mine = pl.col("class") == name
        columns = ["before", "after", "change", "low", "high"]
        if name == "DET":  # the first class has the same random sets
            columns += ["control_change", "control_low", "control_high", "z", "p"]
        both = [
            table.filter(mine, pl.col("measure") != "top_in_class").select(columns)
            for table in (found.classes, whole.classes)
        ]
        assert np.allclose(both[0].to_numpy(), both[1].to_numpy(), rtol=1e-4, atol=1e-6)
        assert found.words.filter(mine)["item"].to_list() == whole.words.filter(mine)["item"].to_list()
        for other in ("DET", "VERB"):
            row = found.across.filter(replaced=name, measure="log_p_gold").row(
                by_predicate=pl.col("class") == other, named=True
            )
            theirs = whole.classes.filter(measure="log_p_gold").row(by_predicate=pl.col("class") == other, named=True)
            assert row["change"] == pytest.approx(theirs["change"], rel=1e-4, abs=1e-6)
            assert row["n_words"] == theirs["n_words"]
    assert len(found.controls) == 2 * 3 * len(MEASURES)
    assert found.controls["variance_ratio"].is_not_nan().all()


def test_classes_without_neurons_or_words_are_no_error_unless_none_is_left(
    planted: tuple[na.Model, Corpus, Activations],
) -> None:
    layout = planted[0].layout()
    found = class_effects(*planted, own_neurons(layout) | {"class9": used(layout)}, n_controls=2, progress=False)
    assert "classes with fewer than 10 words to ask for were left out: class9" in found.notes
    with pytest.raises(InterventionError, match=r"^0 neurons, 20 controls"):
        class_effects(*planted, {"class0": layout.set([])}, progress=False)
    with pytest.raises(InterventionError, match=r"^no class of 'planted' has 10 words"):
        class_effects(*planted, {"class9": used(layout)}, progress=False)
