from collections.abc import Callable

from neuronatlas.models import Model
from neuronatlas.models.checking import prove_ways


def test_a_causal_model_uses_its_cache_at_the_answer_and_replay_elsewhere(model_of: Callable[[str], Model]) -> None:
    ways = prove_ways(model_of("gpt2"))
    assert (ways.at_answer, ways.elsewhere, ways.refused) == ("replay-cached", "replay", {})


def test_a_masked_model_replays_everywhere(model_of: Callable[[str], Model]) -> None:
    ways = prove_ways(model_of("bert"))
    assert (ways.at_answer, ways.elsewhere, ways.refused) == ("replay", "replay", {})
