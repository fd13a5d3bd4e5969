"""The command `check`, on one model and on architectures of transformers."""

from pathlib import Path

from tests.cli.conftest import document, run, succeed


def test_other_tools_names_stand_beside_each_site(folder: Path) -> None:
    text = succeed("check", folder)
    assert "blocks.{i}.mlp.hook_post" in text
    assert 'Trace(model, "bert.encoder.layer.{i}.output.dense", retain_input=True)' in text
    names = document("check", folder)["sites"]["ffn"]["other_names"]
    assert names["nnsight"] == "model.bert.encoder.layer.{i}.output.dense.input"


def test_all_architectures_are_tried_by_one_command(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    found = document("check", "--all", "--only", "llama,mamba", "--markdown", page)
    assert found["counts"] == {"all": 2, "built": 2, "feed_forward": 1, "passed": 1, "refused": 1, "crashed": 0}
    assert [row["model_type"] for row in found["architectures"]] == ["llama", "mamba"]
    assert "| llama | LlamaForCausalLM | causal | passed | 4 x 48 |" in page.read_text("utf-8")


def test_the_table_of_architectures_is_printed_with_the_counts() -> None:
    text = succeed("check", "--all", "--only", "gpt2")
    assert "GPT2LMHeadModel" in text
    assert "1 class: 1 built" in text


def test_a_model_and_all_of_them_is_one_too_many(folder: Path) -> None:
    for arguments in (("check",), ("check", folder, "--all"), ("check", folder, "--only", "llama")):
        assert run(*arguments).exit_code == 2
    assert run("check", "--all", "--only", "nonsense").exit_code == 2


def test_a_model_without_feed_forward_neurons_is_checked_for_what_it_has(mamba: Path) -> None:
    text = succeed("check", mamba)
    assert "no site ffn: layer 0 (backbone.layers.0): 0 position-wise projections" in text
    found = document("check", mamba)
    assert "hidden" in found["sites"]
    assert set(found["missing_sites"]) == {"ffn"}
