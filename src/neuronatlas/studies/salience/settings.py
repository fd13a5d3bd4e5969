"""The settings of an atlas of salient neurons: all that its tables depend on beside the model and the corpora."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from neuronatlas.probing.corpora import Corpus
from neuronatlas.probing.examples import SHARES
from neuronatlas.probing.manifest import DTYPES
from neuronatlas.probing.pooling import POOLINGS, Pooling
from neuronatlas.probing.rankings import RANKINGS
from neuronatlas.probing.search import SCORES
from neuronatlas.probing.selection import DELTA
from neuronatlas.studies.settings import SettingsError

__all__ = ["REPLACEMENTS", "SEARCHES", "Replacement", "SalienceSettings", "corpora_digest", "described"]

Replacement = Literal["mean", "zero"]
SEARCHES = tuple(SCORES)
REPLACEMENTS: tuple[str, ...] = get_args(Replacement)


@dataclass(frozen=True)
class SalienceSettings:
    """How salient neurons are found and tested.

    Activations: `site`, `layers` (all without a choice), `pooling` and `dtype` on disk as those of `extract`.
    Probe: `l1` and `l2`, or a `search` for them on the dev sentences (`dev` for accuracy, `ablation` for what tells
    top from bottom neurons), solved to a duality gap of `tol`; `shares` of train, dev and test; classes of fewer than
    `min_count` items are left out.
    Rankings: `methods`, lca among them: whatever their order, minimal sets with their layers, interventions and
    descriptions are of its neurons; `ablated` are the shares of neurons that ablation keeps or drops.
    Sets: `delta` is the accuracy that a minimal set may lose, `most_sets` how many disjoint ones are looked for at
    most, `mass` the share of a class' weight that its top neurons have, `threshold` the distance 1 - |correlation| of
    redundant neurons.
    In the model: the top neurons, as many as the minimal set has but at most the share `replaced` of all, take these
    `replacements`, against `n_controls` random sets, for `words_per_class` words. Then each of the `most_classes` most
    frequent classes loses its own neurons, its top ones at `mass` but at most the share `replaced`, against
    up to `class_controls` random sets each: more of these, since no p is below 1 / (1 + class_controls), and that has
    to withstand a correction for all classes.
    `described` top neurons are described by `contexts` words and contexts each.
    """

    site: str = "hidden"
    layers: tuple[int, ...] | None = None
    pooling: Pooling | None = None
    dtype: str = "float32"
    l1: float = 1e-3
    l2: float = 1e-2
    tol: float = 1e-3
    search: str | None = None
    shares: tuple[float, float, float] = SHARES
    min_count: int = 10
    methods: tuple[str, ...] = tuple(RANKINGS)
    ablated: tuple[float, ...] = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
    delta: float = DELTA
    most_sets: int = 5
    mass: float = 0.25
    threshold: float = 0.3
    replaced: float = 0.05
    replacements: tuple[Replacement, ...] = ("mean",)
    n_controls: int = 40
    class_controls: int = 100
    most_classes: int = 20
    words_per_class: int = 30
    described: int = 20
    contexts: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        _require(self, ("l1", "l2"), lambda value: 0 <= value < math.inf, "a number from 0 expected")
        _require(self, ("delta", "threshold"), lambda value: 0 <= value < 1, "a number from 0 and below 1 expected")
        _require(self, ("tol",), lambda value: 0 < value < 1, "a number above 0 and below 1 expected")
        _require(self, ("mass", "replaced"), lambda value: 0 <= value <= 1, "a number from 0 to 1 expected")
        _require(self, _COUNTS, lambda value: value >= 1, "a number from 1 expected")
        _require(self, ("shares",), _divides, "three positive numbers of sum 1 expected, for train, dev and test")
        _require(self, ("ablated",), _ablates, "one or more different numbers expected, above 0 and below 1")
        self._require_known("methods", RANKINGS)
        self._require_known("replacements", REPLACEMENTS)
        if self.search is not None and self.search not in SEARCHES:
            raise SettingsError(f"no search {self.search!r}: one of {', '.join(SEARCHES)} expected")
        if self.pooling is not None and self.pooling not in POOLINGS:
            raise SettingsError(f"no pooling {self.pooling!r}: one of {', '.join(POOLINGS)} expected")
        if self.dtype not in DTYPES:
            raise SettingsError(f"no dtype {self.dtype!r}: one of {', '.join(DTYPES)} expected")
        if "lca" not in self.methods:
            raise SettingsError(f"methods {', '.join(self.methods)}: lca, which the sets come from, must be among them")

    def _require_known(self, name: str, known: Any) -> None:
        given = getattr(self, name)
        if not given or len(set(given)) != len(given) or not set(given) <= set(known):
            named = ", ".join(map(repr, given)) or "none"
            raise SettingsError(f"{name} {named}: one or more different ones of {', '.join(known)} expected")


_COUNTS = (
    *("min_count", "n_controls", "class_controls", "most_classes", "words_per_class"),
    *("described", "contexts", "most_sets"),
)


def _require(settings: SalienceSettings, names: Sequence[str], holds: Any, expected: str) -> None:
    for name in names:
        value = getattr(settings, name)
        if not holds(value):
            raise SettingsError(f"{name} {value}: {expected}")


def _divides(shares: Sequence[float]) -> bool:
    return len(shares) == 3 and min(shares) > 0 and abs(sum(shares) - 1) < 1e-9


def _ablates(shares: Sequence[float]) -> bool:
    return bool(shares) and len(set(shares)) == len(shares) and all(0 < share < 1 for share in shares)


def described(settings: SalienceSettings, corpora: Sequence[Corpus]) -> dict[str, Any]:
    """The settings as plain JSON, with the labels and a digest of all words and labels.

    >>> from neuronatlas.probing.corpora import Sentence
    >>> corpus = Corpus((Sentence.of(["Anna"], ["PROPN"], source="line 1"),), label="upos")
    >>> described(SalienceSettings(), [corpus])["labels"]
    ['upos']
    """
    found = {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(settings).items()}
    first = corpora[0]
    about = {
        "corpus": first.name,
        "level": first.level,
        "n_sentences": len(first),
        "labels": [c.label for c in corpora],
    }
    return about | {"corpus_digest": corpora_digest(corpora)} | found


def corpora_digest(corpora: Sequence[Corpus]) -> str:
    """A digest of all words and labels."""
    return hashlib.sha256("\n".join(corpus.digest for corpus in corpora).encode()).hexdigest()[:16]
