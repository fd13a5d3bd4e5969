"""Each class with its own neurons replaced: the classes that a model uses them for are told, and no others."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from rich.console import Console
from transformers import GPT2Config, GPT2LMHeadModel

import neuronatlas as na
from neuronatlas.cli.show_salience import show_salience
from neuronatlas.probing.corpora import Corpus, Sentence
from neuronatlas.probing.examples import examples_of, split_by_sentences
from neuronatlas.probing.extraction import extract
from neuronatlas.probing.interventions import class_effects, property_effects
from neuronatlas.probing.probe import ElasticNetProbe
from neuronatlas.probing.rankings import rank, top_neurons
from neuronatlas.studies.salience.building import build_salience_atlas
from neuronatlas.studies.salience.overview import salience_overview
from neuronatlas.studies.salience.settings import SalienceSettings
from neuronatlas.studies.specimen_corpus import corpus_of_specimen
from tests.handwritten import SPECIAL, blank_bert, word_tokenizer

FAST = SalienceSettings(
    site="ffn",
    methods=("lca",),
    ablated=(0.1,),
    most_sets=1,
    min_count=5,
    replacements=("mean", "zero"),
    n_controls=4,
    class_controls=99,
    words_per_class=12,
    described=1,
    contexts=1,
)

CLASSES, WORDS = 4, 5
USED, IDLE = ["class0", "class1"], ["class2", "class3"]
"""Classes that the model below predicts by a neuron, and classes whose neuron nothing reads."""
VOCABULARY = [
    *SPECIAL,
    ".",
    *(f"cue{c}" for c in range(CLASSES)),
    *(f"word{c}_{i}" for c in range(CLASSES) for i in range(WORDS)),
]
WIDTH, NEURONS = 32, 40
CUE, MOVED, WRITTEN, JUNK = 0, 8, 16, 24


def corpus_of(n: int = 80, classes: int = CLASSES) -> Corpus:
    """Sentences such as `cue2 word2_0 word2_4 .`: the words have their class as label, the cue and the stop none."""
    rng = np.random.default_rng(0)
    sentences = []
    for index in range(n):
        kind = index % classes
        inside = [f"word{kind}_{i}" for i in rng.integers(WORDS, size=rng.integers(2, 5))]
        labels = [None, *[f"class{kind}"] * len(inside), None]
        sentences.append(Sentence.of([f"cue{kind}", *inside, "."], labels, source=f"sentence {index}"))
    return Corpus(tuple(sentences), label="planted")


def handwritten() -> na.Model:
    """A BERT whose neuron L1.Uc fires in sentences of class c, for each class; those of `USED` write that class."""
    module = blank_bert(len(VOCABULARY), width=WIDTH, neurons=NEURONS)
    with torch.no_grad():
        table = module.bert.embeddings.word_embeddings.weight
        for token, word in enumerate(VOCABULARY):
            # Every word is something, so that no embedding is normed from nothing; cues are also their class.
            table[token, JUNK + token % 4] = 0.5
            if word.startswith("cue"):
                table[token, CUE + int(word[3:])] = 1.0
        lower, upper = module.bert.encoder.layer
        for layer in (lower, upper):
            layer.attention.output.dense.weight.copy_(torch.eye(WIDTH))
        for kind in range(CLASSES):
            lower.attention.self.value.weight[MOVED + kind, CUE + kind] = 5.0
            upper.attention.self.value.weight[JUNK + 4, CUE + kind] = 0.5
        for unit in range(NEURONS):
            lower.intermediate.dense.weight[unit, JUNK + unit % 4] = 1.0
            lower.output.dense.weight[JUNK + 5, unit] = 0.01
            read = MOVED + unit if unit < CLASSES else JUNK + unit % 4
            upper.intermediate.dense.weight[unit, read] = 1.0
            if unit < len(USED):
                upper.output.dense.weight[WRITTEN + unit, unit] = 1.0
            elif unit >= CLASSES:
                upper.output.dense.weight[JUNK + 6, unit] = 0.01
        module.cls.predictions.transform.dense.weight.copy_(torch.eye(WIDTH))
        for kind in range(len(USED)):
            for i in range(WORDS):
                module.cls.predictions.decoder.weight[VOCABULARY.index(f"word{kind}_{i}"), WRITTEN + kind] = 1.5
    return na.load((module, word_tokenizer(VOCABULARY)))


def built(model: na.Model, corpus: Corpus, folder: Path, settings: SalienceSettings = FAST) -> na.Atlas:
    return build_salience_atlas(model, [corpus], folder, settings, progress=False)


def mass(atlas: na.Atlas, replacement: str = "zero") -> pl.DataFrame:
    """The rows of single classes."""
    table = atlas.table("class_interventions").filter(measure="class mass", replacement=replacement)
    return table.filter(pl.col("class").is_not_null())


@pytest.fixture(scope="module")
def model() -> na.Model:
    return handwritten()


@pytest.fixture(scope="module")
def atlas(model: na.Model, tmp_path_factory: pytest.TempPathFactory) -> na.Atlas:
    return built(model, corpus_of(), tmp_path_factory.mktemp("own") / "atlas")


@pytest.mark.parametrize("replacement", FAST.replacements)
def test_a_class_that_the_model_uses_its_neurons_for_is_moved_and_one_with_idle_neurons_is_not(
    atlas: na.Atlas, replacement: str
) -> None:
    rows = {row["class"]: row for row in mass(atlas, replacement).iter_rows(named=True)}
    assert list(rows) == [*USED, *IDLE]
    for name in USED:
        assert rows[name]["high"] < rows[name]["control_low"]
        assert (rows[name]["p"], rows[name]["p_adjusted"]) == (1 / 100, 2 / 100)
        assert rows[name]["change"] < -3 * abs(rows[name]["others_change"])
    for name in IDLE:
        assert abs(rows[name]["change"]) < 1e-3
        assert rows[name]["p_adjusted"] > 0.05
    (found,) = (one for one in salience_overview(atlas).properties[0].class_by_class if one.replacement == replacement)
    assert sorted(found.falling) == USED
    assert (found.n_classes, found.n_left_out, found.n_controls) == (4, 0, 99)


def test_random_labels_leave_no_class_moved() -> None:
    model, corpus = na.load(na.specimen_folder()), corpus_of_specimen("upos", 150)
    drawn = iter(np.random.default_rng(0).integers(6, size=corpus.n_items).tolist())
    random = corpus.relabelled("random", lambda sentence: [f"r{next(drawn)}" for _ in sentence.words])
    acts = extract(model, random, "hidden", progress=False)
    probe = ElasticNetProbe(1e-3, 1e-2, tol=1e-2).fit(acts, random.labels)
    found = class_effects(
        model, random, acts, top_neurons(probe, 0.25), n_controls=99, per_class=6, min_words=6, progress=False
    )
    rows = found.classes.filter(measure="class_mass")
    assert rows.height == 6
    assert (rows["p_adjusted"] > 0.05).all()


def test_a_class_has_the_neurons_that_the_ranking_puts_first_for_it(atlas: na.Atlas, model: na.Model) -> None:
    corpus = corpus_of()
    acts = extract(model, corpus, "ffn", progress=False)
    train = split_by_sentences(examples_of(acts, corpus, FAST.min_count), FAST.shares, FAST.seed).train
    probe = ElasticNetProbe.load(atlas.folder / "probe-0.safetensors")
    ranking = rank(train.acts, train.labels, method="lca", probe=probe, progress=False)
    tops = dict(atlas.table("classes").select("class", "n_top").iter_rows())
    most = round(FAST.replaced * len(ranking))
    for row in mass(atlas, "mean").iter_rows(named=True):
        name, size = row["class"], row["set_size"]
        assert size == min(tops[name], most)
        alone = property_effects(
            model,
            corpus,
            acts,
            ranking.of_class(name).top(size),
            n_controls=1,
            per_class=FAST.words_per_class,
            min_words=5,
            progress=False,
        )
        expected = alone.classes.filter(pl.col("class") == name, measure="class_mass").row(0, named=True)
        for column in ("n_words", "before", "after", "change", "low", "high"):
            assert row[column] == pytest.approx(expected[column], rel=1e-4, abs=1e-6)


def test_every_class_of_the_probe_is_asked_for_or_said_to_be_left_out(model: na.Model, tmp_path: Path) -> None:
    kinds = corpus_of().relabelled(
        "kind", lambda s: [word[-1] if word.startswith("word") else word for word in s.words]
    )
    settings = replace(FAST, most_classes=3, words_per_class=4, replacements=("mean",), class_controls=2)
    atlas = built(model, kinds, tmp_path / "kinds", settings)
    sizes = dict(atlas.table("classes").select("class", "n_train").iter_rows())
    asked = mass(atlas, "mean")["class"].to_list()
    assert asked == sorted(sorted(sizes, key=lambda name: (-sizes[name], name))[:3])
    rest = atlas.table("class_interventions").filter(pl.col("left_out").is_not_null())
    assert sorted([*asked, *rest["class"]]) == sorted(sizes)
    assert set(rest["left_out"]) == {"not among the 3 most frequent classes"}
    nothing = rest.drop("label", "class", "left_out")
    assert nothing.null_count().row(0) == (rest.height,) * nothing.width
    text = na.write_report(atlas.folder).read_text(encoding="utf-8")
    assert f"Left out: {rest.height} classes (not among the 3 most frequent classes)." in text


def test_two_classes_are_said_to_have_the_same_neurons(model: na.Model, tmp_path: Path) -> None:
    atlas = built(model, corpus_of(classes=2), tmp_path / "two", replace(FAST, class_controls=2))
    assert mass(atlas)["set_size"].n_unique() == 1
    notes = atlas.table("notes").filter(stage="interventions by class")["note"].to_list()
    assert notes[-1] == "a probe of two classes has one row of weights: both classes have the same own neurons"


def test_a_causal_model_is_asked_for_its_next_words_class_by_class(tmp_path: Path) -> None:
    config = GPT2Config(vocab_size=len(VOCABULARY), n_embd=32, n_layer=2, n_head=2, n_positions=16)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = GPT2LMHeadModel(config)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(4 if parameter.ndim > 1 else 1)
    model = na.load((module, word_tokenizer(VOCABULARY)))
    assert model.kind == "causal"
    rows = mass(built(model, corpus_of(), tmp_path / "causal", replace(FAST, class_controls=9)), "mean")
    assert rows["class"].to_list() == [*USED, *IDLE]
    assert (rows["change"].abs() > 1e-6).all()
    assert rows["p"].is_between(1 / 10, 1).all()


def test_the_terminal_says_how_many_classes_their_own_neurons_move(atlas: na.Atlas) -> None:
    out = Console(width=1_000, file=StringIO())
    show_salience(out, atlas)
    (line,) = (line for line in out.file.getvalue().splitlines() if "alone at zero" in line)  # type: ignore[attr-defined]
    assert line.startswith("Its own? With each class's own neurons alone at zero (")
    assert "up to 99 random sets each), the probability of 2 of 4 classes falls more than by chance: class" in line


def test_a_finished_atlas_without_the_table_is_still_told(atlas: na.Atlas, monkeypatch: pytest.MonkeyPatch) -> None:
    older = [name for name in atlas.tables if name != "class_interventions"]
    monkeypatch.setattr(na.Atlas, "tables", property(lambda self: older))
    assert salience_overview(atlas).properties[0].class_by_class == ()


@pytest.mark.parametrize("settings", [{"class_controls": 0}, {"most_classes": 0}])
def test_fewer_than_one_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(na.SettingsError, match="0: a number from 1 expected"):
        SalienceSettings(**settings)
