"""Commands that look at a model's neurons: `attribute`, `effects`."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Annotated, Any

import typer

from neuronatlas.addresses import address_of
from neuronatlas.atlas import Atlas
from neuronatlas.cli import show
from neuronatlas.cli.inputs import choose_fact, open_facts, open_model, require_facts
from neuronatlas.cli.options import (
    AsJson,
    Device,
    Dtype,
    FactName,
    FactsFile,
    Gains,
    Limit,
    ModelName,
    NeuronNames,
    NeuronsOfAtlas,
    Position,
    Relations,
    Revision,
    RoutingName,
    RuleName,
    SiteName,
    SiteOfNeurons,
    Steps,
    as_gains,
    as_names,
    as_position,
    require_source,
)
from neuronatlas.cli.running import console, print_json
from neuronatlas.knowledge.attribution import Attribution
from neuronatlas.knowledge.attribution import attribute as find_scores
from neuronatlas.knowledge.corruptions import OtherSubjects
from neuronatlas.knowledge.effects import effects as find_effects
from neuronatlas.knowledge.quadrature import DEFAULT_RULE
from neuronatlas.studies.overview import atlas_neurons, find_row

__all__ = ["attribute", "effects"]

_GAP = "largest completeness gap of a layer"


def attribute(
    model: ModelName,
    prompt: Annotated[str, typer.Option(help="A text with \\[MASK] or {answer} where the answer belongs.")],
    answer: Annotated[str, typer.Option(help="The answer whose probability is explained.")],
    position: Position = "answer",
    subject: Annotated[
        str | None, typer.Option(help="The subject in the prompt, for --position subject and attribution patching.")
    ] = None,
    others: Annotated[
        list[str] | None,
        typer.Option(
            metavar="Japan,Peru",
            help="Subjects for the corrupted prompts of --rule attribution-patching; without them, noise.",
        ),
    ] = None,
    rule: RuleName = DEFAULT_RULE,
    steps: Steps = None,
    site: SiteName = "ffn",
    routing: RoutingName = "free",
    top: Annotated[int, typer.Option(min=1, metavar="N", help="How many neurons to print.")] = 20,
    revision: Revision = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    as_json: AsJson = False,
) -> None:
    r"""Score every neuron by what it adds to the probability of an answer to one prompt, and print the highest.

    Example: neuronatlas attribute bert-base-cased --prompt "The capital of France is \[MASK]." --answer Paris

    Prints P(answer), the token that the model prefers, the neurons with their scores (in units of probability; of log P
    where the answer has several tokens, and by --rule direct) and the completeness gap: how far the scores of a layer
    are from adding up; raise --steps where it is large. In a mixture of experts P jumps where a scaled row goes to
    other experts: see the gap of --routing frozen.
    """
    loaded = open_model(model, revision=revision, device=device, dtype=dtype, site=site)
    corruption = None if others is None else OtherSubjects.named(*(as_names(others) or []))
    scores = find_scores(
        loaded,
        prompt,
        answer,
        position=as_position(position),
        subject=subject,
        rule=rule,
        steps=steps,
        site=site,
        routing=routing,
        corruption=corruption,
    )
    if as_json:
        print_json(
            {"model": loaded.name, "digest": loaded.digest, "site": site, "rule": rule} | _scores_document(scores, top)
        )
        return
    out, outcome = console(), scores.answered
    out.print(f'"{scores.query.text}"')
    choice = "the model's first choice" if outcome.is_top else f"the model prefers {outcome.top_token}"
    out.print(f"P({answer}) = {outcome.probability:.2%}, log-odds {outcome.log_odds:+.2f}; {choice}")
    rows = [(n, f"{scores[n]:.5f}", f"{scores.activations[n]:.4f}") for n in scores.top(top)]
    out.print(show.table_of(("neuron", "score", "activation"), rows))
    exact = "no integral, so no completeness gap" if math.isnan(scores.gap) else f"{_GAP} {scores.gap:.1e}"
    out.print(f"{exact}; scores in {scores.unit}; rows run by {scores.way}")
    if scores.tokens:
        logs = zip(scores.answered.token_log_probabilities, scores.tokens, strict=True)
        by_token = [(str(n), f"{log:.3f}", f"{token.gap:.1e}") for n, (log, token) in enumerate(logs, start=1)]
        out.print("scores are in log P, the sum over the answer's tokens:")
        out.print(show.table_of(("token", "log P", "gap"), by_token))


def _scores_document(scores: Attribution, top: int) -> dict[str, Any]:
    neurons = [
        {"neuron": str(n), **address_of(scores.layout, n), "score": scores[n], "activation": scores.activations[n]}
        for n in scores.top(top)
    ]
    places = [step.position for step in scores.query.steps]
    about = {"prompt": scores.query.text, "answer": scores.query.answer, "positions": places, "unit": scores.unit}
    about |= asdict(scores.answered) | {"gap": scores.gap, "token_gaps": [token.gap for token in scores.tokens]}
    about["way"] = scores.way
    return about | {"neurons": neurons}


def effects(
    model: ModelName,
    facts: FactsFile,
    atlas: NeuronsOfAtlas = None,
    neurons: NeuronNames = None,
    fact: FactName = "0",
    relations: Relations = None,
    limit: Limit = None,
    gains: Gains = "0,0.5,1,2",
    site: SiteOfNeurons = "ffn",
    revision: Revision = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    as_json: AsJson = False,
) -> None:
    """Multiply the neurons of a fact by some gains and print what becomes of its answer on every prompt.

    Example: neuronatlas effects specimen specimen --neurons L3.U10,L3.U77 --relations capital --fact Japan

    Prints, gain by gain, P(answer) and its log-odds before and after, the token that the model prefers then, and the
    means beside those for equally many random neurons of the same layers.
    """
    require_source(atlas, neurons)
    factors = as_gains(gains)
    require_facts(facts)
    found = None if atlas is None else Atlas.open(atlas)
    site = site if found is None else str(found.meta["settings"]["site"])
    loaded = open_model(model, revision=revision, device=device, dtype=dtype, site=site)
    selected = open_facts(facts, loaded, as_names(relations), limit)
    index = choose_fact(selected, fact)
    if found is None:
        chosen = loaded.layout(site).set(as_names(neurons) or [])
    else:
        chosen = atlas_neurons(found, loaded, find_row(found, selected, index))
    position = "answer" if found is None else found.meta["settings"]["position"]
    table = find_effects(loaded, selected[index], chosen, gains=factors, position=position)
    control = find_effects(loaded, selected[index], chosen.random_like(seed=0), gains=factors, position=position)
    if as_json:
        about = {"model": loaded.name, "digest": loaded.digest, "fact": asdict(selected[index])}
        lists = {"neurons": list(map(str, chosen)), "effects": table.to_dicts(), "random_neurons": control.to_dicts()}
        print_json(about | lists)
        return
    out, asked = console(), selected[index]
    out.print(f"{asked.label} -> {asked.answer} ({asked.relation})")
    out.print(f"neurons: {', '.join(map(str, chosen)) or 'none'}")
    show.show_effects(out, table, control)
