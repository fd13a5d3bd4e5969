"""What tells the kinds of specimen apart: how one is built, what it is asked, and where its logits are read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import BertTokenizer, PreTrainedModel

from neuronatlas.specimen.batches import Hiding
from neuronatlas.specimen.world import Sentence, Wordings


@dataclass(frozen=True)
class Settings:
    """Everything that decides the weights, apart from the kind of model and the number of threads."""

    seed: int = 7
    epochs: int = 20
    width: int = 64
    neurons: int = 1024
    layers: int = 4
    heads: int = 4
    doubt: float = 0.35
    activation_l1: float = 3.0
    initial_spread: float = 0.04
    peak_rate: float = 2e-3
    embedding_pace: float = 0.1
    warm_up: float = 0.06
    weight_decay: float = 0.01


@dataclass(frozen=True, slots=True)
class Step:
    """One token of one answer: what the model is given, the position where it is read, and the token wanted."""

    ids: list[int]
    place: int
    target: int


@dataclass(frozen=True)
class Kind:
    """One kind of specimen.

    `hide` makes a batch of picked rows, those whose answer is asked being marked. `neurons` gives the modules that take
    the neurons of each layer as input. `logits` reads the model at flat places of a batch without padding, and is right
    for those alone. `activity` is what the L1 penalty weighs: of the neurons that `logits` computed in each layer, and
    the number of positions in the batch. `steps` asks for an answer, from left to right, one token a step.
    """

    wordings: Wordings
    settings: Settings
    build: Callable[[Settings, BertTokenizer], PreTrainedModel]
    hide: Hiding
    neurons: Callable[[Any], Sequence[nn.Module]]
    logits: Callable[[Any, Int[Tensor, "row token"], Int[Tensor, " place"]], Float[Tensor, "place vocabulary"]]
    activity: Callable[[Sequence[Float[Tensor, "*place unit"]], int], Float[Tensor, ""]]
    steps: Callable[[Sentence, BertTokenizer], list[Step]]
