"""Every word's row is what its sentence alone would give, on any architecture, in any batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from jaxtyping import Float32
from transformers import BertForMaskedLM, PreTrainedModel, PreTrainedTokenizerBase

from neuronatlas.models import Model, SiteError, capture, load, suppress
from neuronatlas.models.calls import overridden
from neuronatlas.neurons import LayoutMismatchError, NeuronSet
from neuronatlas.probing.activations import Activations, ActivationsError
from neuronatlas.probing.alignment import align
from neuronatlas.probing.corpora import Corpus, Level, Sentence
from neuronatlas.probing.extraction import extract
from neuronatlas.specimen import specimen_folder
from tests.models.conftest import (
    TOYS,
    module_of,  # noqa: F401 - a fixture
    tokenizer,  # noqa: F401 - a fixture
)

Rows = Float32[np.ndarray, "row neuron"]

TEXTS = [
    "Paris is the capital of France .",
    "Once upon a time there was a little girl named Lily who lived by the river , and she didn't want to leave .",
    "Yes",
    "The naïve composer played the violin in Vienna for ten long years .",
    "It rains .",
    "A bird sang .",
    "Who knows why the old man went to the big city and never came back home again ?",
]


def corpus_of(texts: list[str], level: Level = "word") -> Corpus:
    sentences = []
    for number, text in enumerate(texts, start=1):
        words = text.split()
        labels = [f"label-{len(word)}" for word in words] if level == "word" else ["one"]
        sentences.append(Sentence.of(words, labels, f"test, line {number}"))
    return Corpus(tuple(sentences), "label", level, name="test")


def alone(
    model: Model, corpus: Corpus, site: str
) -> Iterator[tuple[Rows, tuple[int, ...], tuple[tuple[int, ...], ...]]]:
    """One sentence at a time through the whole model: its neurons by token, tokens of text, tokens of each word."""
    for sentence in corpus.sentences:
        found = align([sentence], model.tokenizer, model.max_length)[0]
        with torch.no_grad(), capture(model, site) as seen:
            model.logits(torch.tensor([found.ids]))
        yield torch.cat([seen[layer][0] for layer in sorted(seen)], dim=1).numpy(), found.plain, found.words


def words_alone(model: Model, corpus: Corpus, site: str, pooling: str = "last") -> Rows:
    pools: dict[str, Callable[[Rows], Rows]] = {
        "last": lambda tokens: tokens[-1],
        "first": lambda tokens: tokens[0],
        "mean": lambda tokens: tokens.mean(axis=0),
    }
    found = [(values, word) for values, _, words in alone(model, corpus, site) for word in words if word]
    return np.stack([pools[pooling](values[list(word)]) for values, word in found])


def assert_same(found: Activations, expected: Rows, tolerance: float = 1e-5) -> None:
    assert found.shape == expected.shape
    np.testing.assert_allclose(found.array(), expected, rtol=0, atol=tolerance)


@pytest.fixture(scope="module")
def specimen() -> Model:
    return load(specimen_folder())


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return corpus_of(TEXTS)


@pytest.fixture(scope="module")
def toy_corpus() -> Corpus:
    """Words of one to five tokens, sentences of one to fifteen words, for the toys' tokenizer."""
    rng = np.random.default_rng(0)
    words = [
        ["-".join(f"w{rng.integers(95)}" for _ in range(rng.integers(1, 4))) for _ in range(n)] for n in (1, 7, 15, 3)
    ]
    return corpus_of([" ".join(sentence) for sentence in words])


@pytest.mark.parametrize("batch_tokens", [1, 40, 100_000])
@pytest.mark.parametrize("pooling", ["last", "first", "mean"])
def test_a_masked_model_gives_each_word_what_its_sentence_alone_gives(
    pooling: Any, batch_tokens: int, specimen: Model, corpus: Corpus
) -> None:
    for site in specimen.sites:
        found = extract(specimen, corpus, site, pooling=pooling, batch_tokens=batch_tokens, progress=False)
        assert_same(found, words_alone(specimen, corpus, site, pooling))


@pytest.mark.parametrize("batch_tokens", [1, 40, 100_000])
@pytest.mark.parametrize("pooling", ["last", "first", "mean"])
def test_a_causal_model_gives_each_word_what_its_sentence_alone_gives(
    pooling: Any, batch_tokens: int, stories: Model, corpus: Corpus
) -> None:
    for site in stories.sites:
        found = extract(stories, corpus, site, pooling=pooling, batch_tokens=batch_tokens, progress=False)
        assert_same(found, words_alone(stories, corpus, site, pooling))


@pytest.mark.parametrize("name", sorted(TOYS))
def test_every_architecture_gives_each_word_what_its_sentence_alone_gives(
    name: str,
    toy_corpus: Corpus,
    module_of: Callable[..., PreTrainedModel],  # noqa: F811
    tokenizer: PreTrainedTokenizerBase,  # noqa: F811
) -> None:
    model = load((module_of(name), tokenizer))
    for site in model.sites:
        expected = words_alone(model, toy_corpus, site)
        # Relative to the largest, since the toys' weights are scaled up and some of their values with them.
        assert_same(extract(model, toy_corpus, site, progress=False), expected, 1e-5 * float(np.abs(expected).max()))
    assert model.ways["padded batches"] == ""


def test_layers_are_those_of_transformers(specimen: Model, corpus: Corpus) -> None:
    """The embeddings are layer 0; in a model that normalises last, all layers are transformers' hidden states."""
    assert isinstance(specimen.module, BertForMaskedLM)
    found, rows = extract(specimen, corpus, "hidden", progress=False).array(), []
    for sentence in corpus.sentences:
        aligned = align([sentence], specimen.tokenizer, specimen.max_length)[0]
        with torch.no_grad():
            states = specimen.module(input_ids=torch.tensor([aligned.ids]), output_hidden_states=True).hidden_states
            embedded = specimen.module.bert.embeddings(torch.tensor([aligned.ids]))
        assert torch.equal(states[0], embedded)
        last = [tokens[-1] for tokens in aligned.words]
        rows.append(torch.cat(states, dim=-1)[0, last])
    np.testing.assert_allclose(found, torch.cat(rows).numpy(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["last", "first", "mean", None])
def test_sentences_are_pooled_over_their_tokens(name: Any, specimen: Model) -> None:
    corpus = corpus_of(TEXTS, level="sentence")
    found = extract(specimen, corpus, "hidden", pooling=name, progress=False)
    expected = []
    for values, plain, _ in alone(specimen, corpus, "hidden"):
        tokens = values[list(plain)]
        assert len(plain) == len(values) - 2
        expected.append({"last": tokens[-1], "first": values[0]}.get(name, tokens.mean(axis=0)))
    assert_same(found, np.stack(expected))
    assert found.items.tolist() == list(range(len(corpus)))


def test_rows_stand_in_the_order_of_the_corpus(specimen: Model, corpus: Corpus) -> None:
    found = extract(specimen, corpus, "ffn", progress=False)
    assert found.items.tolist() == list(range(corpus.n_items)) == list(range(found.n_items))
    again = extract(specimen, corpus.take([3]), "ffn", progress=False)
    third = corpus.sentence_of == 3
    np.testing.assert_allclose(found.chosen(rows=third).array(), again.array(), rtol=0, atol=1e-5)


def test_some_layers_and_neurons_are_columns_of_the_whole(specimen: Model, corpus: Corpus) -> None:
    whole = extract(specimen, corpus, "hidden", progress=False)
    layers = extract(specimen, corpus, "hidden", layers=[3, 0], progress=False)
    chosen = whole.layout.set(["L0.U5", "L0.U3", "L2.U0", "L3.U63"])
    some = extract(specimen, corpus, "hidden", neurons=chosen, progress=False)
    both = extract(specimen, corpus, "hidden", neurons=chosen, layers=[0], progress=False)
    assert [neuron.layer for neuron in layers.neurons()] == [0] * 64 + [3] * 64
    assert some.neurons() == chosen
    assert [str(neuron) for neuron in both.neurons()] == ["L0.U3", "L0.U5"]
    for part in (layers, some, both):
        np.testing.assert_array_equal(part.array(), whole.chosen(columns=part.neurons()).array())
        assert part.layout == whole.layout


def test_nothing_above_the_last_layer_asked_for_is_computed(specimen: Model, corpus: Corpus) -> None:
    extract(specimen, corpus, "ffn", progress=False)
    ran: list[int] = []
    handles = [block.module.register_forward_hook(lambda *_, b=block: ran.append(b.layer)) for block in specimen.blocks]
    head = specimen.module.get_output_embeddings()
    assert head is not None
    handles.append(head.register_forward_hook(lambda *_: ran.append(-1)))
    try:
        extract(specimen, corpus, "ffn", layers=[1], progress=False)
        below = set(ran)
        extract(specimen, corpus, "ffn", progress=False)
    finally:
        for handle in handles:
            handle.remove()
    assert below == {0}, "the pass ends inside block 1, at its neurons"
    assert set(ran) == {0, 1, 2}


@pytest.mark.parametrize(("dtype", "digits"), [("float16", 2**-11), ("bfloat16", 2**-8)])
def test_shorter_numbers_are_the_rounded_ones(dtype: str, digits: float, specimen: Model, corpus: Corpus) -> None:
    exact = extract(specimen, corpus, "hidden", progress=False).array()
    found = extract(specimen, corpus, "hidden", dtype=dtype, progress=False)
    assert found.array().dtype == np.float32
    np.testing.assert_allclose(found.array(), exact, rtol=digits, atol=1e-5)
    rows, columns = [30, 2, 2], [7, 300]
    np.testing.assert_array_equal(found.chosen(rows, columns).array(), found.array()[np.ix_(rows, columns)])


def test_words_without_a_row_are_counted(specimen: Model) -> None:
    long = " ".join(["river"] * 100)
    corpus = corpus_of(["a \u200b b", long, "\u200b \u0007"])
    found = extract(specimen, corpus, "hidden", layers=[0], progress=False)
    kept = [tokens for tokens in align(corpus.sentences[1:2], specimen.tokenizer, 64)[0].words if tokens]
    assert 0 < len(kept) < 100
    assert found.items.tolist() == [0, 2, *range(3, 3 + len(kept))]
    assert found.notes == (
        "3 words have no token in the model's tokenizer: they have no row",
        f"{100 - len(kept)} words lie beyond the 64 tokens that the model takes: they have no row",
    )
    assert found.n_items == corpus.n_items == 105
    whole = extract(specimen, corpus_of([long, "\u200b"], "sentence"), "hidden", layers=[0], progress=False)
    assert whole.items.tolist() == [0]
    assert whole.notes == (
        "1 sentences have no token in the model's tokenizer: they have no row",
        "1 sentences were cut to the 64 tokens that the model takes",
    )


def test_a_corpus_without_a_row_is_refused(specimen: Model, tmp_path: Path) -> None:
    for folder in (None, tmp_path):
        with pytest.raises(ActivationsError, match=r"^no word of test has a token in .* tokenizer: nothing to keep$"):
            extract(specimen, corpus_of(["\u200b"]), folder=folder, progress=False)


def plant(model: Model, value: float) -> None:
    """Give one neuron of the word w7 a value of its own."""
    weight = model.module.get_input_embeddings().weight
    assert isinstance(weight, torch.Tensor)
    with torch.no_grad():
        weight[5 + 7, 3] = value


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_a_value_that_is_not_finite_is_named_with_its_word(
    value: float,
    module_of: Callable[..., PreTrainedModel],  # noqa: F811
    tokenizer: PreTrainedTokenizerBase,  # noqa: F811
) -> None:
    model = load((module_of("gpt2"), tokenizer))
    plant(model, value)
    said = rf"^test, line 2: neuron L0\.U3 is {value} at 'w7', a finite activation expected$"
    with pytest.raises(ActivationsError, match=said):
        extract(model, corpus_of(["w1 w2", "w3 w7 w4"]), "hidden", layers=[0], progress=False)


def test_a_value_beyond_float16_is_not_stored_as_infinite(
    module_of: Callable[..., PreTrainedModel],  # noqa: F811
    tokenizer: PreTrainedTokenizerBase,  # noqa: F811
) -> None:
    model = load((module_of("gpt2"), tokenizer))
    plant(model, 1e5)
    corpus = corpus_of(["w3 w7 w4"])
    with pytest.raises(ActivationsError, match=r"L0\.U3 is inf at 'w7'.*float16 holds at most 65504: choose bfloat16"):
        extract(model, corpus, "hidden", layers=[0], dtype="float16", progress=False)
    assert extract(model, corpus, "hidden", layers=[0], dtype="bfloat16", progress=False).array().max() > 9e4


def deaf(forward: Callable[..., Any]) -> Callable[..., Any]:
    """A model that does not hear of padding."""
    return lambda attention_mask, **given: forward(attention_mask=torch.ones_like(attention_mask), **given)


def crowded(forward: Callable[..., Any]) -> Callable[..., Any]:
    """A block whose rows depend on how many others share their pass."""
    return lambda hidden, *args, **given: forward(hidden * (1 + 0.01 * len(hidden)), *args, **given)


def test_a_model_that_minds_padding_gets_sentences_of_one_length(
    toy_corpus: Corpus,
    module_of: Callable[..., PreTrainedModel],  # noqa: F811
    tokenizer: PreTrainedTokenizerBase,  # noqa: F811
) -> None:
    model = load((module_of("bert"), tokenizer))
    with overridden({model.module: deaf(model.module.forward)}):
        expected = words_alone(model, toy_corpus, "hidden")
        assert_same(
            extract(model, toy_corpus, "hidden", progress=False), expected, 1e-5 * float(np.abs(expected).max())
        )
    assert "moves by" in model.ways["padded batches"]
    assert model.ways["equal batches"] == ""


def test_a_model_that_minds_company_gets_one_sentence_at_a_time(
    toy_corpus: Corpus,
    module_of: Callable[..., PreTrainedModel],  # noqa: F811
    tokenizer: PreTrainedTokenizerBase,  # noqa: F811
) -> None:
    model = load((module_of("bert"), tokenizer))
    block = model.blocks[0].module
    with overridden({block: crowded(block.forward)}):
        expected = words_alone(model, toy_corpus, "hidden")
        assert_same(
            extract(model, toy_corpus, "hidden", progress=False), expected, 1e-5 * float(np.abs(expected).max())
        )
    assert "moves by" in model.ways["equal batches"]


def test_an_intervention_shows_in_memory_and_never_in_a_folder(specimen: Model, corpus: Corpus, tmp_path: Path) -> None:
    neurons = NeuronSet.of(specimen.layout("ffn"), ["L1.U3"])
    with suppress(specimen, neurons):
        found = extract(specimen, corpus, "ffn", neurons=neurons, progress=False)
        with pytest.raises(ActivationsError, match=r"^an intervention is active, and activations in .* would pass for"):
            extract(specimen, corpus, "ffn", tmp_path / "a", progress=False)
    assert not found.array().any()
    assert not (tmp_path / "a").exists()


def test_rows_that_do_not_fit_into_memory_are_refused_with_a_way_out(
    specimen: Model, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(torch, "empty", refuse)
    with pytest.raises(
        ActivationsError,
        match=rf"^{corpus.n_items} rows of 4096 neurons \(0 GB\) do not fit into memory: give a folder",
    ):
        extract(specimen, corpus, "ffn", progress=False)


def test_the_default_site_is_the_models(specimen: Model, corpus: Corpus) -> None:
    assert extract(specimen, corpus, layers=[0], progress=False).layout == specimen.layout("ffn")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"layers": [0, 5]}, "^no layer 5: site 'hidden' has layers 0 to 4$"),
        ({"layers": [-1]}, "^no layer -1: "),
        ({"layers": []}, "^no neurons are asked for: "),
        ({"pooling": "max"}, "^no pooling 'max': expected last, first, mean$"),
        ({"dtype": "float8"}, "^no dtype 'float8': expected float32, float16, bfloat16$"),
        ({"batch_tokens": 0}, "^batch_tokens is 0: a number from 1 expected$"),
        ({"shard_rows": -3}, "^shard_rows is -3: "),
    ],
)
def test_settings_that_make_no_sense_are_refused(
    settings: dict[str, Any], said: str, specimen: Model, corpus: Corpus
) -> None:
    with pytest.raises(ActivationsError, match=said):
        extract(specimen, corpus, "hidden", progress=False, **settings)


def test_sites_and_neurons_of_elsewhere_are_refused(specimen: Model, corpus: Corpus) -> None:
    with pytest.raises(SiteError, match="has no site 'logits'"):
        extract(specimen, corpus, "logits", progress=False)
    with pytest.raises(LayoutMismatchError, match="site is 'hidden' here and 'ffn' there"):
        extract(specimen, corpus, "hidden", neurons=specimen.layout("ffn").set(["L0.U0"]), progress=False)


def test_progress_is_counted_in_sentences(
    specimen: Model, corpus: Corpus, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    extract(specimen, corpus, layers=[0])
    extract(specimen, corpus, folder=tmp_path, layers=[0], shard_rows=10)
    shown = capsys.readouterr().err
    assert shown.count("7/7") >= 2
    assert "sentence" in shown
    extract(specimen, corpus, layers=[0], progress=False)
    assert capsys.readouterr().err == ""
