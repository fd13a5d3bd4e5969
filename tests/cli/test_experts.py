"""Commands on a mixture of experts: addresses with experts in and out, routing free or frozen."""

from pathlib import Path

import polars as pl
import pytest

import neuronatlas as na
from tests.cli.conftest import document, run, succeed, write_facts
from tests.experts import FACTS, knowing
from tests.handwritten import saved


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a DeepSeek-like model in `model` and its facts in `facts.jsonl`."""
    folder = tmp_path_factory.mktemp("experts")
    write_facts(folder / "facts.jsonl", FACTS)
    saved(knowing("deepseek_v3"), folder / "model")
    return folder


def test_locate_keeps_the_routing_and_effects_takes_its_experts_neurons(place: Path) -> None:
    given = (place / "model", place / "facts.jsonl")
    said = succeed("locate", *given, "-o", place / "atlas", "--routing", "frozen")
    assert "The model knows 4 of 4 facts" in said
    assert " routing frozen " in succeed("info", place / "atlas")
    options = ("--fact", "1", "--gains", "0")
    found = document("effects", *given, "--atlas", place / "atlas", *options)
    assert found["neurons"] == list(map(str, na.locate(knowing("deepseek_v3"), FACTS, routing="frozen")[1]))
    named = document("effects", *given, "--neurons", ",".join(found["neurons"]), *options)
    assert named["effects"] == found["effects"]


def test_attribute_names_each_neurons_expert_and_tells_the_gap_of_either_routing(place: Path) -> None:
    asked = [(prompt, fact.answer) for fact in FACTS for prompt in fact.prompts]
    # The prompt on which scaling neurons sends a layer above to other experts.
    prompt, answer = max(asked, key=lambda pair: na.attribute(knowing("deepseek_v3"), *pair).gap)
    gaps = []
    for routing in ("free", "frozen"):
        found = document("attribute", place / "model", "--prompt", prompt, "--answer", answer, "--routing", routing)
        scores = na.attribute(knowing("deepseek_v3"), prompt, answer, routing=routing)
        assert found["gap"] == pytest.approx(scores.gap, abs=1e-5)  # rounding differs with where weights lie
        assert [one["neuron"] for one in found["neurons"]] == list(map(str, scores.top(20)))
        for one in found["neurons"]:
            assert na.Neuron(one["layer"], one["unit"], one["expert"]) == na.Neuron.parse(one["neuron"])
        gaps.append(found["gap"])
    assert gaps[0] > 10 * gaps[1]


def test_an_address_without_its_expert_is_refused_with_the_form_that_is_expected(place: Path) -> None:
    result = run("effects", place / "model", place / "facts.jsonl", "--neurons", "L1.U3")
    assert result.exit_code == 1
    assert "layer 1 has experts, its neurons are written as L1.E0.U0" in result.stderr


def test_rank_and_describe_tell_experts_apart(place: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.conllu"
    rows = [prompt.replace("[MASK]", fact.answer).split() for fact in FACTS for prompt in fact.prompts]
    line = "{}\t{}\t_\t{}\t_\t_\t0\t_\t_\t_"
    blocks = [[line.format(n, word, word.istitle()) for n, word in enumerate(row, 1)] for row in rows]
    text.write_text("".join("\n".join(block) + "\n\n" for block in blocks), encoding="utf-8")
    succeed("extract", place / "model", text, "-o", tmp_path / "acts", "--site", "ffn")
    options = (tmp_path / "acts", text, "--label", "upos", "--method", "probeless", "--min-count", "2")
    succeed("rank", *options, "--csv", tmp_path / "ranking.csv")
    table = pl.read_csv(tmp_path / "ranking.csv")
    assert table.columns == ["rank", "neuron", "layer", "expert", "unit", "score"]
    name = next(name for name in table["neuron"] if name.startswith("L2.E"))
    assert name in succeed("describe", place / "model", text, name, "--label", "upos", "--site", "ffn")


def test_check_names_experts_as_other_tools_do_and_claims_no_more(place: Path) -> None:
    names = document("check", place / "model")["sites"]["ffn"]["other_names"]
    assert list(names) == ["TransformerLens"]
    assert names["TransformerLens"].startswith("blocks.{i}.mlp.experts.{e}.hook_post")
