import warnings
from collections.abc import Callable

import pytest

from neuronatlas.knowledge.attribution import attribute
from neuronatlas.models import Model, load
from neuronatlas.models.checking import prove_ways
from neuronatlas.models.queries import QueryError
from neuronatlas.studies.sweep.toys import Architecture, build, toy_tokenizer


def test_a_causal_model_uses_its_cache_at_the_answer_and_replay_elsewhere(model_of: Callable[[str], Model]) -> None:
    ways = prove_ways(model_of("gpt2"))
    assert (ways.at_answer, ways.elsewhere, ways.refused) == ("replay-cached", "replay", {})


def test_a_masked_model_replays_everywhere(model_of: Callable[[str], Model]) -> None:
    ways = prove_ways(model_of("bert"))
    assert (ways.at_answer, ways.elsewhere, ways.refused) == ("replay", "replay", {})


def test_a_model_listed_as_causal_that_sees_ahead_is_not_asked_what_comes_next() -> None:
    xlnet = Architecture("xlnet", "XLNetLMHeadModel", "causal")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its configuration warns of what the recipe made small
        model = load((build(xlnet), toy_tokenizer()))
    ways = prove_ways(model)
    assert (ways.at_answer, list(ways.refused)) == ("none", ["causality"])
    with pytest.raises(QueryError, match="what follows a token moves its logits"):
        attribute(model, "w11 w52 [MASK]", "w33")


def test_causal_models_do_not_see_ahead(causal_architecture: str, model_of: Callable[[str], Model]) -> None:
    assert not model_of(causal_architecture).sees_ahead
