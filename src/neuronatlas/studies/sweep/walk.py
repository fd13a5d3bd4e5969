"""Walks the toys: loads each as a user's model is loaded, attributes, compares with plain re-runs, suppresses.

A refusal is one of the package's own errors, with its reason. Anything else that is raised is a fault of the package
and is told as a crash.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from tqdm.auto import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from neuronatlas.knowledge.attribution import AttributionError, attribute
from neuronatlas.knowledge.facts import FactError
from neuronatlas.knowledge.quadrature import rule_nodes
from neuronatlas.models import Model, ModelError, SiteError, load, suppress
from neuronatlas.models.gradients import path_gradients
from neuronatlas.models.queries import QueryError, query
from neuronatlas.models.ways import Plain, Prompts
from neuronatlas.neurons import NeuronError
from neuronatlas.studies.sweep.toys import Architecture, Kind, architectures, build, toy_tokenizer

__all__ = ["TOLERANCE", "Outcome", "State", "sweep", "try_architecture", "try_model"]

State = Literal["passed", "refused", "crashed", "not built"]

TOLERANCE = 1e-5
"""Largest deviation of a score from plain re-runs, relative to the largest score of the prompt (float32)."""

STEPS = 3
LONGEST = 180
"""Characters of a reason."""
_REFUSALS = (SiteError, ModelError, QueryError, FactError, AttributionError, NeuronError)
_WORDS = "w11 w52 w33 w74 w25 w96 w47"


@dataclass(frozen=True)
class Outcome:
    """What became of one architecture.

    `sites` are those that were proved, with their widths, a layer each; `ways` how attribution ran at the answer's
    place and elsewhere; `deviation` the largest from plain re-runs, as a share of the largest score; `feed_forward`
    whether a layer of it has feed-forward neurons (None where that is not known); `reason` why it did not pass.
    """

    model_type: str
    class_name: str
    kind: Kind
    state: State
    sites: dict[str, tuple[int, ...]] = field(default_factory=dict)
    ways: tuple[str, ...] = ()
    deviation: float | None = None
    feed_forward: bool | None = None
    reason: str = ""

    @property
    def cause(self) -> str:
        """The reason without what is particular to this model, for counting."""
        text = re.sub(r"^(site '[\w.]+', )?layer \d+ \([^)]*\): ", "", self.reason)
        return re.sub(r"\d+", "N", text.partition(" (")[0])


class _WrongError(Exception):
    """A promise that the package did not keep on a toy."""


def sweep(chosen: Sequence[Architecture] | None = None, *, progress: bool = True) -> Iterator[Outcome]:
    """Try architectures one by one, by default all of transformers', and yield what became of each.

    >>> [outcome.state for outcome in sweep([Architecture("llama", "LlamaForCausalLM", "causal")], progress=False)]
    ['passed']
    """
    wanted = architectures() if chosen is None else chosen
    tokenizer = toy_tokenizer()
    with tqdm(wanted, unit="architecture", disable=not progress, dynamic_ncols=True) as bar:
        for architecture in bar:
            bar.set_postfix_str(architecture.model_type)
            yield try_architecture(architecture, tokenizer)


def try_architecture(architecture: Architecture, tokenizer: PreTrainedTokenizerBase) -> Outcome:
    """Build one architecture and try it."""
    about = (architecture.model_type, architecture.class_name, architecture.kind)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # configurations warn of what the recipe made small
        try:
            module = build(architecture)
        except Exception as error:  # noqa: BLE001 - whatever transformers raises, this one cannot be tried
            return Outcome(*about, "not built", reason=_line(error))
        return try_model(module, tokenizer, architecture)


def try_model(module: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, about: Architecture) -> Outcome:
    """Load a built model, and if it is not refused hold it to every promise."""
    names = (about.model_type, about.class_name, about.kind)
    model: Model | None = None
    try:
        model = _open(module, tokenizer)
        for name in _promised(model):
            model.site(name)
        ways, deviation = _compare(model)
        for name in _promised(model):
            _suppress_and_restore(model, name)
    except _REFUSALS as error:
        return Outcome(
            *names, "refused", _widths(model), feed_forward=_has_neurons(model), reason=_line(error, about.class_name)
        )
    except Exception as error:  # noqa: BLE001 - a fault of the package, and the sweep goes on
        kind = "" if isinstance(error, _WrongError) else f"{type(error).__name__}: "
        return Outcome(*names, "crashed", _widths(model), feed_forward=_has_neurons(model), reason=kind + _line(error))
    return Outcome(*names, "passed", _widths(model), ways, deviation, True)


def _open(module: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Model:
    """The loaded model, whatever it has no neurons for: what it lacks is to be told from what it has."""
    try:
        # Every stack of blocks has the site `hidden`, unless its layers are no modules of their own.
        model = load((module, tokenizer), site="hidden")
    except SiteError:
        both = getattr(module.config, "is_encoder_decoder", False)
        model = load((module, tokenizer), site="encoder.hidden" if both else "ffn")
    model.default_site = "ffn"
    return model


def _promised(model: Model) -> tuple[str, ...]:
    """The sites that a model must have to pass."""
    return ("ffn", "encoder.ffn") if model.encoder_blocks else ("ffn",)


def _line(error: Exception, class_name: str = "") -> str:
    """An error in one short line, without the model's name, which the table has beside it."""
    text = " ".join(str(error).split()) or type(error).__name__
    text = re.sub(rf"^{class_name}(: | has no site '[\w.]+': | \(\S+\) is )", "", text) if class_name else text
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1].rstrip()}…"


def _widths(model: Model | None) -> dict[str, tuple[int, ...]]:
    return {} if model is None else {name: site.widths for name, site in model.sites.items()}


def _has_neurons(model: Model | None) -> bool | None:
    if model is None:
        return None
    return any(block.ffn or block.experts or block.unaccounted for block in (*model.blocks, *model.encoder_blocks))


def _compare(model: Model) -> tuple[tuple[str, ...], float]:
    """The ways in which attribution runs at the answer's place and elsewhere, and its largest deviation."""
    prompt = f"{_WORDS} [MASK]" if model.kind == "causal" else f"{_WORDS} [MASK] w66 w67"
    answer = _answer(model, prompt)
    found = [_compare_at(model, prompt, answer, site, where) for site, where in _compared(model)]
    return tuple(way for way, _ in found), max(apart for _, apart in found)


def _compared(model: Model) -> list[tuple[str, str | int]]:
    """Sites and positions; a decoder of its own is asked at the answer's place alone."""
    if model.encoder_blocks:
        return [("ffn", "answer"), ("encoder.ffn", "answer"), ("encoder.ffn", 2)]
    return [("ffn", "answer"), ("ffn", 2)]


def _compare_at(model: Model, prompt: str, answer: str, site: str, position: str | int) -> tuple[str, float]:
    scores = attribute(model, prompt, answer, position=position, steps=STEPS, site=site)
    prompts = Prompts.of(scores.query.steps, model.device)
    right = path_gradients(model, prompts, *rule_nodes("gauss-legendre", STEPS), site=site, way=Plain)
    plain = torch.cat([n * g for n, g in zip(right.neurons, right.gradients, strict=True)], dim=1)[0]
    largest = plain.abs().max()
    if position == "answer" and not bool(largest > 0):
        raise _WrongError(f"no neuron of {site} has a score, so nothing is compared")
    # Elsewhere nothing need reach the answer, and then nothing may be said to.
    apart = (torch.as_tensor(scores.values) - plain).abs().max() / torch.where(largest > 0, largest, 1)
    if not float(apart) <= TOLERANCE:
        raise _WrongError(f"scores by {scores.way} differ from plain re-runs by {float(apart):.1e} of the largest")
    return scores.way, float(apart)


def _answer(model: Model, prompt: str) -> str:
    """The word that the model prefers: a P near 0 has gradients too small to compare."""
    left, _, right = prompt.partition("[MASK]")
    asked = query(model, left, right, "w5")
    with torch.no_grad():
        logits = Prompts.of([asked.first], model.device).logits(model)[0, : len(model.tokenizer)]
    logits[model.tokenizer.all_special_ids] = -torch.inf
    return str(model.tokenizer.convert_ids_to_tokens([int(logits.argmax())])[0])


def _suppress_and_restore(model: Model, site: str) -> None:
    """Suppress neurons of every layer of a site in turn: the logits change, and are bit-equal afterwards."""
    layout, given = model.layout(site), (model.probe_ids, model.probe_decoder_ids)
    with torch.no_grad():
        before = model.logits(*given)
        for layer, width in enumerate(layout.widths):
            if not width:  # nothing to suppress
                continue
            neurons = layout.set(layout.at(layer, place) for place in range(0, width, 3))
            with suppress(model, neurons):
                inside = model.logits(*given)
            if torch.equal(inside, before):
                raise _WrongError(f"suppressing {len(neurons)} neurons of {site}, layer {layer}, changes nothing")
            if not torch.equal(model.logits(*given), before):
                raise _WrongError(f"the output is not restored after suppressing neurons of {site}, layer {layer}")
