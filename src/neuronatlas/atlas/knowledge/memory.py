"""What knowledge neurons read and write, in a report: the tokens of their value slots, the prompts of their keys."""

from statistics import median

from neuronatlas.atlas.knowledge.listings import top_neurons
from neuronatlas.atlas.page import Listing, Section, Tables
from neuronatlas.atlas.wording import percent

__all__ = ["MEMORY_TABLES", "memory_section"]

MEMORY_TABLES = ("value_tokens", "answer_ranks", "key_prompts", "unread")
_MOST_NEURONS, _MOST_TOKENS, _NEAR = 300, 6, 10


def memory_section(tables: Tables) -> Section | None:
    """The section, or nothing for an atlas of before it was read what neurons write."""
    if not all(name in tables for name in MEMORY_TABLES) or tables["key_prompts"].is_empty():
        return None
    listing = _listing(tables)
    total = tables["key_prompts"]["neuron"].n_unique()
    shown = f"The {_MOST_NEURONS} with the most facts of {total:,} neurons" if total > _MOST_NEURONS else "All neurons"
    note = (
        f"{shown}; value_tokens.parquet and key_prompts.parquet have more. Promotes, demotes: the tokens whose "
        "logits rise and fall most with the neuron's activation, along direct paths alone (the residual stream "
        "with its norms, and the output head), mean over the states of 16 prompts. Fires most on: the prompts "
        "with its highest activations."
    )
    title = "What the neurons read and write"
    return Section("memory", "Keys and values", title, memory_sentence(tables), listings=(listing,), note=note)


def memory_sentence(tables: Tables) -> str:
    """Whether the value slots of a fact's neurons promote its answer, against random neurons of the same layers."""
    if tables["unread"].height:
        return f"What the neurons write was not read: {tables['unread']['reason'][0]}."
    ranks = {name: tables["answer_ranks"].filter(condition=name)["rank"].to_list() for name in ("located", "random")}
    if not ranks["located"]:
        return "No knowledge neurons were found."
    n_tokens = tables["answer_ranks"]["n_tokens"][0]
    near = f"in {_near(ranks['located'])} of cases"
    told = f"The answer is among the {_NEAR} tokens that a neuron of its fact promotes most {near}"
    control = f", against {_near(ranks['random'])} with random neurons of the same layers" if ranks["random"] else ""
    middle = f"{median(ranks['located']):,.0f}"
    against = f", against {median(ranks['random']):,.0f}" if ranks["random"] else ""
    return f"{told}{control}; its median rank is {middle} of {n_tokens:,} tokens{against}."


def _near(ranks: list[float]) -> str:
    return percent(sum(rank <= _NEAR for rank in ranks) / len(ranks))


def _listing(tables: Tables) -> Listing:
    tokens = {
        key: _joined(group["token"].to_list())
        for key, group in tables["value_tokens"].group_by("neuron", "direction", maintain_order=True)
    }
    prompts = {
        name: list(group.select("activation", "text").iter_rows())
        for (name,), group in tables["key_prompts"].group_by("neuron", maintain_order=True)
    }
    rows = [
        [
            neuron,
            f"{n:,}",
            examples,
            tokens.get((neuron, "up"), ""),
            tokens.get((neuron, "down"), ""),
            " \N{MIDDLE DOT} ".join(f"{text} ({value:.2f})" for value, text in prompts.get(neuron, [])),
        ]
        for neuron, n, examples in top_neurons(tables["neurons"], tables["facts"], _MOST_NEURONS)
        .select("neuron", "n_facts", "examples")
        .iter_rows()
    ]
    return Listing(
        ["Neuron", "Facts", "Such as", "Promotes", "Demotes", "Fires most on"],
        [False, True, False, False, False, False],
        rows,
        search="Search: neuron, token, prompt …",
    )


def _joined(tokens: list[str]) -> str:
    return ", ".join(tokens[:_MOST_TOKENS])
