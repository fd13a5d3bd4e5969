"""The benchmarks: that their scores agree, and that they count no arithmetic which is not there."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry
from transformers import DynamicCache

import neuronatlas as na
from neuronatlas.atlas.page import Plot, Section
from neuronatlas.knowledge.attribution import attribute_queries
from neuronatlas.knowledge.rules import RULES
from tests.experts import FACTS, knowing

# The scripts find each other in their own folder, as they do when they are run.
sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks"))

import accelerator
import arithmetic
import attribution
import attribution_rules
import baseline
import experts
import extraction
import gallery
import measure
import memory
import outcome
import probing
import quadrature
import salient_findings
import shapes
import triggers

TOKENS, PROMPTS = 6, 3


class _Counter(TorchDispatchMode):
    """Counts multiply-adds by torch's own formulas; FlopCounterMode itself cannot follow gradients of leaves."""

    multiply_adds = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func.overloadpacket in flop_registry:
            formula = flop_registry[func.overloadpacket]
            self.multiply_adds += formula(*args, **(kwargs or {}), out_val=out) // 2
        return out


def _counted(run: Callable[[], Any]) -> tuple[Any, int]:
    with _Counter() as counter:  # type: ignore[no-untyped-call]
        found = run()
    return found, counter.multiply_adds


def _forward_and_backward(module: nn.Module, given: Tensor, **options: Any) -> tuple[int, int]:
    """Multiply-adds of a module, and of the gradient of its input."""
    leaf = given.clone().requires_grad_()
    out, forward = _counted(lambda: module(leaf, **options))
    _, backward = _counted(lambda: torch.autograd.grad(out[0].sum() if isinstance(out, tuple) else out.sum(), leaf))
    return forward, backward


def test_the_arithmetic_of_a_masked_block_and_head_is_what_torch_counts() -> None:
    shape = shapes.TINY[0]
    module: Any = shapes.random_model(shape, attention="eager").module
    block = _forward_and_backward(module.bert.encoder.layer[0], torch.randn(1, TOKENS, shape.width))
    assert block == (arithmetic.block(shape, TOKENS), arithmetic.block_backward(shape, TOKENS))
    head = _forward_and_backward(module.cls, torch.randn(1, 1, shape.width))
    assert head == (arithmetic.head(shape), arithmetic.head(shape))


def test_the_arithmetic_of_a_causal_block_and_head_is_what_torch_counts() -> None:
    shape = shapes.TINY[1]
    module: Any = shapes.random_model(shape, attention="eager").module
    cache = DynamicCache(config=module.config)
    module(torch.ones(1, TOKENS - 1, dtype=torch.long), past_key_values=cache, use_cache=True)
    given = torch.randn(1, 1, shape.width)
    forward, backward = _forward_and_backward(module.transformer.h[0], given, past_key_values=cache)
    # Autograd also computes gradients towards the keys and values of the prompt, which nobody needs.
    unneeded = 2 * (TOKENS - 1) * shape.width
    assert forward == arithmetic.block(shape, TOKENS)
    assert backward == arithmetic.block_backward(shape, TOKENS) + unneeded
    head = _forward_and_backward(module.lm_head, torch.randn(1, 1, shape.width))
    assert head == (arithmetic.head(shape), arithmetic.head(shape))


def test_the_arithmetic_of_a_block_with_shared_keys_and_a_gate_is_what_torch_counts() -> None:
    shape = shapes.TINY[2]
    module: Any = shapes.random_model(shape, attention="eager").module
    cache = DynamicCache(config=module.config)
    module(torch.ones(1, TOKENS - 1, dtype=torch.long), past_key_values=cache, use_cache=True)
    given = torch.randn(1, 1, shape.width)
    turns = module.model.rotary_emb(given, torch.tensor([[TOKENS - 1]]))
    forward, backward = _forward_and_backward(
        module.model.layers[0], given, past_key_values=cache, position_embeddings=turns
    )
    assert forward == arithmetic.block(shape, TOKENS)
    assert backward == arithmetic.block_backward(shape, TOKENS) + 2 * (TOKENS - 1) * shape.width


@pytest.mark.parametrize("index", [0, 1, 2], ids=["masked", "causal", "gated"])
@pytest.mark.parametrize(("rule", "nodes", "zero"), [("left-riemann", 20, True), ("gauss-legendre", 7, False)])
def test_no_arithmetic_is_counted_that_is_not_done(index: int, rule: str, nodes: int, zero: bool) -> None:
    shape = shapes.TINY[index]
    model, queries = shapes.random_model(shape, attention="eager"), shapes.random_queries(shape, TOKENS, PROMPTS)
    list(attribute_queries(model, queries[:1]))
    _, done = _counted(lambda: list(attribute_queries(model, queries, rule=rule, steps=nodes)))
    needed = arithmetic.needed(shape, TOKENS, PROMPTS, nodes, zero_is_node=zero).total
    assert needed <= done <= 1.35 * needed


@pytest.mark.parametrize("index", [0, 1, 2], ids=["masked", "causal", "gated"])
def test_scores_equal_those_of_the_plain_per_layer_method(index: int) -> None:
    shape = shapes.TINY[index]
    model = shapes.random_model(shape, dtype=torch.float64)
    queries = shapes.random_queries(shape, TOKENS, PROMPTS)
    found = attribute_queries(model, queries, rule="left-riemann", steps=20)
    for asked, scores in zip(queries, found, strict=True):
        step = asked.first
        right = baseline.per_layer_scores(model.module, step.ids, step.answer_position, step.answer_id)
        largest = float(right.abs().max())
        assert largest > 0
        # The norms of a Llama compute in float32 whatever its weights are.
        share = 1e-10 if shape.key_value_heads is None else 1e-5
        torch.testing.assert_close(torch.from_numpy(scores.matrix().copy()), right, rtol=0, atol=share * largest)


def test_the_quick_benchmark_of_attribution_runs_and_writes_its_tables(tmp_path: Path) -> None:
    attribution.main(quick=True, memory=False, only=None, markdown=tmp_path / "table.md")
    text = (tmp_path / "table.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| tiny")]
    assert len(rows) == 2 * len(attribution.cases(quick=True))
    assert {line.split("|")[5].strip() for line in rows} == {"replay", "replay-cached"}


def test_the_benchmark_of_a_device_runs_small_where_there_is_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    accelerator.main(device="cpu", quick=True, markdown=tmp_path / "table.md")
    text = (tmp_path / "table.md").read_text()
    assert "| tiny Llama" in text
    assert "| tiny BERT" in text
    if not torch.cuda.is_available():
        accelerator.main(device="cuda", quick=False, markdown=None)
        assert "no device 'cuda' here" in capsys.readouterr().out


def test_the_quick_benchmark_of_quadrature_says_how_many_nodes_suffice(tmp_path: Path) -> None:
    quadrature.main(quick=True, markdown=tmp_path / "table.md")
    text = (tmp_path / "table.md").read_text()
    assert "- smooth neurons (tiny BERT): 1 is good enough; the default is 5." in text


def test_the_fewest_nodes_are_good_enough_on_every_deciding_model_of_a_kind_at_once() -> None:
    left = quadrature.Errors(np.full(20, 0.02), np.zeros(20))

    def study(name: str, decides: bool, bad: dict[int, int], *, kinks: bool = False) -> Any:
        errors = {n: np.where(np.arange(20) < bad[n], 0.03, 0.01) for n in bad}
        gauss = {n: quadrature.Errors(e, np.zeros(20)) for n, e in errors.items()}
        return quadrature.Study(name, decides, kinks, 20, 1.0, left, gauss)

    smooth = study("smooth", True, {1: 2, 2: 1, 3: 0, 4: 0})
    other = study("other", True, {1: 20, 2: 2, 3: 0, 4: 0})
    kinked = study("kinked", True, {1: 20, 2: 2, 3: 2, 4: 1}, kinks=True)
    ignored = study("ignored", False, {1: 20, 2: 20, 3: 20, 4: 20})
    assert (smooth.fewest, kinked.fewest, ignored.fewest) == (2, 4, None)
    every = [smooth, other, kinked, ignored]
    assert [quadrature.fewest_nodes(every, kinks=kinks) for kinks in (False, True)] == [3, 4]
    assert quadrature.fewest_nodes([ignored], kinks=False) is None


def test_peak_memory_of_a_fresh_process_does_not_count_that_of_its_parent() -> None:
    torch.ones(2**26)
    peak = memory.peak_of(shapes.TINY[0], tokens=TOKENS, prompts=2, threads=1)
    assert 0 < peak.first <= peak.all < measure.peak_memory()


def test_targets_are_judged_against_what_was_found() -> None:
    timing = outcome.Timing(
        model="BERT-base", tokens=12, prompts=1, rule="left-riemann", nodes=20, way="replay", seconds=2.0,
        reference_seconds=3.0, compared=1, gflop=180.0, bare_gflops=100.0, reading_share=None, gap=0.02, deviation=1e-6,
    )  # fmt: skip
    found = {target.wanted: target.verdict for target in outcome.targets([timing])}
    assert found == {2.0: "missed by 25%", 0.85: "met"}


def test_the_quick_benchmark_of_probing_times_rows_that_equal_those_of_single_sentences(tmp_path: Path) -> None:
    probing.main(quick=True, threads=0, sentences=10, markdown=tmp_path / "table.md")
    text = (tmp_path / "table.md").read_text()
    assert "| tiny BERT" in text
    assert "extraction, of the throughput of bare passes" in text
    assert extraction.time_extraction(10, 1, quick=True).deviation < 1e-5


def test_the_page_on_experts_suppresses_each_and_all_and_tells_the_gaps_of_both_routings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(experts, "trained", knowing)
    found = experts.study("deepseek_v3", FACTS)
    text = "\n".join(experts.page([found]))
    assert text.count("| deepseek_v3 | L") == len(found.experts) > 1
    assert text.count("| deepseek_v3 |") == len(found.experts) + 2
    assert found.together.log_odds < -5 * abs(found.together.random_log_odds)
    free, frozen = (max(gap for one in found.located[name] for gap in one.gaps) for name in experts.ROUTINGS)
    assert frozen <= free
    assert f"{free:.1e}" in text
    assert f"{frozen:.1e}" in text


def test_the_quick_comparison_of_rules_finds_what_moves_a_fact(tmp_path: Path) -> None:
    attribution_rules.main(quick=True, each=1, count=3, markdown=tmp_path / "table.md")
    rows = [line.split("|")[1].strip() for line in (tmp_path / "table.md").read_text().splitlines() if "| " in line]
    ways = {"attribution-patching, noise", "attribution-patching, other-subject", "random neurons"}
    assert set(rows[1:]) == (set(RULES) - {"attribution-patching"}) | ways


def test_precision_counts_the_top_sentences_that_tell_what_is_wanted() -> None:
    told: dict[str, Any] = {"a": ("r", "s", "x"), "b": ("r", "t", "x"), "c": None}
    frame = pl.DataFrame({"direction": ["top"] * 3, "text": ["b", "c", "a"]})
    seen: Any = [types.SimpleNamespace(sentences=frame)]
    first, second = triggers.precisions(seen, told, [{("r", "t", "x")}], depths=(1, 2))
    assert (first.estimate, second.estimate) == (1.0, 0.5)


def test_masked_sentences_tell_what_whole_ones_do() -> None:
    whole, masked = triggers.sentences(masked=False), triggers.sentences(masked=True)
    assert {one for one in whole.values() if one} == {one for one in masked.values() if one}
    assert all(("[MASK]" in text) == (one is not None) for text, one in masked.items())
    assert not any(text in whole for fact in na.specimen_facts() for text in fact.prompts)


def test_a_figure_that_is_drawn_twice_gives_the_same_file() -> None:
    drawn = '<clipPath id="clip{0}xyplot"/><g class="trace{1}" clip-path="url(#clip{0}xyplot)" fill="#0072b2">'
    first, second = (gallery.steady(drawn.format(*ids)) for ids in (("08e1db", "dc8c4a"), ("7c0bd1", "23d415")))
    assert first == second
    assert "#0072b2" in first
    assert first.count("clip000000xyplot") == 2


def test_the_findings_of_a_study_are_those_of_its_reports_sections() -> None:
    picture, finding = Plot("shares", None, "Shares."), "Layer 3 holds the most, 53 % of them. " * 5
    sections = [
        Section("layers", "Layers", "Where do they lie?", finding, (picture,)),
        Section("settings", "Settings", "Settings", "None of them is a finding."),
    ]
    lines = salient_findings.as_list(sections).splitlines()
    assert " ".join(line.strip() for line in lines) == f"- **Layers.** {finding.strip()}"
    assert len(lines) > 1
    assert all(len(line) <= salient_findings.WIDTH for line in lines)
