"""A sample of architectures in every run; all of transformers with NEURONATLAS_SWEEP=1."""

import os

import pytest
import torch

from neuronatlas.studies.sweep.page import COLUMNS, count_outcomes, markdown_page, outcome_cells
from neuronatlas.studies.sweep.toys import Architecture, architectures, build, toy_tokenizer
from neuronatlas.studies.sweep.walk import TOLERANCE, Outcome, sweep, try_architecture

EVERY = {architecture.name: architecture for architecture in architectures()}
PASSING = {
    "causal:bloom": ("replay-stepped", "replay-whole"),
    "causal:gpt2": ("replay-cached", "replay"),
    "causal:modernbert-decoder": ("replay-cached", "replay"),
    "causal:falcon": ("replay-cached", "replay"),
    "causal:phi3": ("replay-cached", "replay"),
    "causal:gemma4_text": ("replay-stepped", "replay-whole"),
    "causal:falcon_h1": ("replay-stepped", "replay-whole"),
    "causal:nemotron_h": ("replay-stepped", "replay-whole"),
    "causal:rwkv": ("replay-whole", "replay-whole"),
    "causal:mixtral": ("replay-cached", "replay"),
    "causal:gpt_oss": ("replay-cached", "replay"),
    "causal:qwen2_moe": ("replay-cached", "replay"),
    "masked:deberta-v2": ("replay", "replay"),
    "masked:flaubert": ("plain", "plain"),
    "masked:fnet": ("replay-whole", "replay-whole"),
    "masked:longformer": ("plain", "plain"),
    "seq2seq:t5": ("plain", "plain", "plain"),
    "seq2seq:fsmt": ("plain", "plain", "plain"),
    "seq2seq:qwen2_audio": ("replay-cached", "replay"),
}
REFUSED = {
    "causal:llama4_text": ("Llama4TextExperts does not compute its experts through", True),
    "causal:mamba": ("0 position-wise projections", False),
    "masked:reformer": ("2 streams of hidden states", None),
    "causal:prophetnet": ("relative_pos_embeddings runs more than once in a block", None),
    "seq2seq:switch_transformers": ("experts that are modules of their own (layer.2.mlp.experts)", True),
    "seq2seq:voxtral_realtime": ("does not run on token ids alone", None),
}


RAGGED = {"causal:nemotron_h": (0, 120, 0, 48)}
"""Widths of layers that differ: without neurons, with experts, and with a feed-forward part of their own."""


def outcome_of(name: str) -> Outcome:
    return try_architecture(EVERY[name], toy_tokenizer())


@pytest.mark.parametrize("name", PASSING)
def test_an_architecture_passes_and_runs_as_fast_as_it_can(name: str) -> None:
    outcome = outcome_of(name)
    assert (outcome.state, outcome.reason, outcome.ways) == ("passed", "", PASSING[name])
    assert outcome.deviation is not None
    assert outcome.deviation <= TOLERANCE
    widths = outcome.sites["ffn"]
    assert widths == RAGGED.get(name, widths[:1] * len(widths))
    # Layers that are no modules of their own have neurons, but no output to be found by.
    assert ("hidden" in outcome.sites) == (name != "masked:flaubert")
    assert len(widths) == len(outcome.sites.get("hidden", (0, *widths))) - 1


@pytest.mark.parametrize("name", REFUSED)
def test_an_architecture_is_refused_with_its_reason(name: str) -> None:
    outcome, (reason, feed_forward) = outcome_of(name), REFUSED[name]
    assert outcome.state == "refused"
    assert reason in outcome.reason
    assert "\n" not in outcome.reason
    assert outcome.feed_forward is feed_forward
    assert "ffn" not in outcome.sites


def test_what_an_encoder_has_is_shown_where_its_decoder_is_refused() -> None:
    outcome = outcome_of("seq2seq:prophetnet")
    assert (outcome.state, outcome.sites["encoder.ffn"]) == ("refused", (48, 48, 48, 48))
    assert "ffn" not in outcome.sites
    assert "encoder 4 x 48" in outcome_cells(outcome)


def test_a_model_passes_only_with_the_neurons_of_both_stacks() -> None:
    outcome = outcome_of("seq2seq:pegasus_x")
    assert outcome.state == "refused"
    assert outcome.sites["ffn"] == (48, 48, 48, 48)
    assert "model.encoder.layers.0" in outcome.reason


def test_a_state_space_model_still_has_its_hidden_states() -> None:
    assert set(outcome_of("causal:mamba").sites["hidden"]) == {32}


def test_every_entry_of_the_tables_is_walked_once() -> None:
    assert len(EVERY) == len(architectures())
    assert {architecture.kind for architecture in EVERY.values()} == {"causal", "masked", "seq2seq"}


def test_a_toy_is_the_same_every_time_and_leaves_the_random_state_alone() -> None:
    before = torch.random.get_rng_state()
    for name in ("causal:llama", "masked:neomme"):  # the second one draws matrices of zeros
        first, second = (build(EVERY[name]).state_dict() for _ in range(2))
        assert all(torch.equal(first[key], second[key]) for key in first)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_what_cannot_be_built_is_told_with_the_reason() -> None:
    outcome = try_architecture(Architecture("llama", "NoSuchModel", "causal"), toy_tokenizer())
    assert outcome.state == "not built"
    assert "NoSuchModel" in outcome.reason


def test_the_page_holds_every_outcome_and_the_counts() -> None:
    outcomes = [
        Outcome("a", "A", "causal", "passed", {"ffn": (48, 48, 24)}, ("replay",), 3e-7, True),
        Outcome("b", "B", "masked", "refused", reason="layer 1 (x.1): no | here (y)", feed_forward=True),
        Outcome("c", "C", "seq2seq", "not built", reason="no library"),
        Outcome("d", "D", "causal", "crashed", reason="KeyError: 1"),
    ]
    page = markdown_page(outcomes)
    assert "4 classes: 3 built, 2 found to have feed-forward neurons, 1 passed at `ffn`, 1 refused" in page
    assert "| a | A | causal | passed | 2 x 48, 1 x 24 |" in page
    assert "| no \\| here | 1 |" in page
    assert all(len(outcome_cells(outcome)) == len(COLUMNS) for outcome in outcomes)
    assert count_outcomes(outcomes).crashed == 1


@pytest.mark.skipif(not os.environ.get("NEURONATLAS_SWEEP"), reason="some minutes: set NEURONATLAS_SWEEP=1")
def test_no_architecture_of_transformers_crashes() -> None:
    outcomes = list(sweep(progress=False))
    assert [f"{o.kind}:{o.model_type}: {o.reason}" for o in outcomes if o.state == "crashed"] == []
    assert all(o.reason and "\n" not in o.reason for o in outcomes if o.state != "passed")
    assert count_outcomes(outcomes).passed >= 150
