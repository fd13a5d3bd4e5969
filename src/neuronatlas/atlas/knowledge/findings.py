"""What an atlas of knowledge neurons found, in words: the headline, and a sentence for each section."""

from statistics import median

import polars as pl

from neuronatlas.addresses import address_columns, address_names
from neuronatlas.atlas.knowledge.plots import main_rule, mean_shared, overall, routed
from neuronatlas.atlas.page import Headline, Tables
from neuronatlas.atlas.wording import Effect, count, number, percent, sentence

__all__ = [
    "KNOWN",
    "beyond_random",
    "doing",
    "effect",
    "ends",
    "experts_sentence",
    "facts_sentence",
    "headline",
    "integration_sentence",
    "layers_sentence",
    "neurons_sentence",
    "relations_sentence",
    "sharing_sentence",
    "top_neuron_sentence",
]

KNOWN = 0.5  # a fact is known when its answer is the first choice on at least this share of its prompts


def ends(summary: pl.DataFrame) -> list[float]:
    """The lowest and the highest gain, without a gain of 1, which changes nothing."""
    gains = summary["gain"].unique().sort().to_list()
    return [gain for gain in dict.fromkeys([*gains[:1], *gains[-1:]]) if gain != 1]


def doing(gain: float, what: str = "") -> str:
    """What a gain does to `what`, in the middle of a sentence.

    >>> doing(0, "them"), doing(0.5, "them"), doing(2)
    ('suppressing them', 'scaling them by 0.5', 'amplifying')
    """
    names = {0.0: ("suppressing", ""), 2.0: ("amplifying", "")}
    before, after = names.get(gain, ("scaling", f"by {gain:g}"))
    return " ".join(filter(None, (before, what, after)))


def effect(summary: pl.DataFrame, condition: str, gain: float, relation: str | None = None) -> Effect | None:
    """The change of P under a condition and a gain, of one relation or over all; None where it was not measured."""
    rows = overall(summary) if relation is None else summary.filter(pl.col("relation") == relation)
    rows = rows.filter(pl.col("condition") == condition, pl.col("gain") == gain)
    rows = rows.select(pl.col("change", "change_low", "change_high").cast(pl.Float64).fill_nan(None))
    if rows.is_empty() or rows["change"][0] is None:
        return None
    value, low, high = rows.row(0)
    return Effect(value, value if low is None else low, value if high is None else high)


def headline(summary: pl.DataFrame) -> Headline:
    """The statement that opens a report, and whether random neurons would have done the same."""
    measured = [(gain, found) for gain in ends(summary) if (found := effect(summary, "located", gain))]
    if not measured:
        return Headline("The effect of these neurons on the answers was not measured.", "")
    (first, change), *others = measured
    statement = f"{doing(first, 'the neurons of a fact')} moves P(answer) by {change}"
    statement += "".join(f"; {doing(gain, 'them')} moves it by {other}" for gain, other in others)
    return Headline(sentence(f"{statement}."), _verdict(first, change, effect(summary, "random", first)))


def _verdict(gain: float, located: Effect, random: Effect | None) -> str:
    if random is None:
        return "There is no control to compare with."
    control = sentence(f"{doing(gain, 'as many random neurons of the same layers')} moves P(answer) by {random}")
    if not located.has_interval:
        return f"{control}. There are too few facts for an interval, so this may be chance."
    if _stronger(gain, located, random):
        return f"{control}: the effect is that of the located neurons, not of changing any few."
    return f"{control}: the intervals are not apart, so this run does not show that the located neurons matter."


def _stronger(gain: float, located: Effect, random: Effect) -> bool:
    """Whether the whole interval lies beyond that of random neurons, on the side where the gain should push."""
    return located.high < random.low if gain < 1 else located.low > random.high


def beyond_random(summary: pl.DataFrame, gain: float) -> tuple[list[str], list[str]]:
    """The relations in which a gain was compared with random neurons, and those of them in which it goes beyond."""
    compared, beyond = [], []
    for name in summary.filter(pl.col("relation") != "all")["relation"].unique().sort():
        located, random = (effect(summary, condition, gain, name) for condition in ("located", "random"))
        if located and random and located.has_interval:
            compared.append(name)
            beyond += [name] if _stronger(gain, located, random) else []
    return compared, beyond


def layers_sentence(layers: pl.DataFrame) -> str:
    """Which layers hold the knowledge neurons."""
    counts = layers.filter(pl.col("relation") != "all").group_by("rule", "layer").agg(pl.sum("n"))
    main = main_rule(layers)
    own = counts.filter(pl.col("rule") == main).sort("n", "layer", descending=[True, False])
    total = sum(own["n"])
    if total == 0:
        return "No knowledge neurons were found."
    n_layers = max(layers["layer"]) + 1
    lowest = n_layers - -(-n_layers // 4)
    top = own["layer"][0]
    text = f"Layer {top} holds the most knowledge neurons, {percent(own['n'][0] / total)} of all"
    if not top == lowest == n_layers - 1:
        where = f"layers {lowest} to {n_layers - 1}, the top quarter" if lowest < n_layers - 1 else f"layer {lowest}"
        text += f"; {percent(_share_from(own, lowest))} lie in {where}"
    baseline = counts.filter(rule="activation")
    if main != "activation" and sum(baseline["n"]):
        text += f", against {percent(_share_from(baseline, lowest))} of those that the activation baseline picks"
    return text + "."


def _share_from(counts: pl.DataFrame, lowest: int) -> float:
    return sum(counts.filter(pl.col("layer") >= lowest)["n"]) / sum(counts["n"])


def neurons_sentence(facts: pl.DataFrame) -> str:
    """How many neurons a fact has."""
    n = facts["n_neurons"].to_list()
    if not n:
        return "There are no facts."
    spread = f"median {median(n):g}, at most {max(n):,}"
    without = percent(n.count(0) / len(n))
    mean = number(sum(n) / len(n), 1)
    return f"A fact has {mean} knowledge neurons on average ({spread}); {without} of the facts have none."


def sharing_sentence(sharing: pl.DataFrame) -> str:
    """How many neurons two facts share."""
    within = pl.col("relation_a") == pl.col("relation_b")
    (n_within, one), (n_between, two) = mean_shared(sharing.filter(within)), mean_shared(sharing.filter(~within))
    parts = [f"two facts of one relation share {number(one, 2)} neurons on average"] if n_within else []
    parts += [f"two facts of different relations share {number(two, 2)}"] if n_between else []
    return sentence((", ".join(parts) or "there are no two facts to compare") + ".")


def relations_sentence(summary: pl.DataFrame) -> str:
    """How the effect holds on prompts that were not used, and in how many relations it is beyond the control."""
    held, apart = [], []
    for gain in ends(summary):
        if found := effect(summary, "held-out", gain):
            held.append(f"{doing(gain)} moves P(answer) by {found}")
        compared, beyond = beyond_random(summary, gain)
        if compared:
            apart.append(f"{doing(gain)} in {len(beyond)} of {count(len(compared), 'relation')}")
    texts = [f"On prompts that were not used to find the neurons, {' and '.join(held)}."] if held else []
    texts += (
        [f"The effect is beyond that of random neurons, intervals apart, for {' and '.join(apart)}."] if apart else []
    )
    return " ".join(texts)


def top_neuron_sentence(tables: Tables) -> str:
    """Which neuron belongs to the most facts."""
    neurons = tables["neurons"].filter(pl.col("rule") == main_rule(tables["neurons"]), pl.col("fold") == "all")
    if neurons.is_empty():
        return "No knowledge neurons were found."
    address = address_columns(neurons)
    facts = neurons.group_by(address).agg(pl.len())
    first = facts.sort("len", *address, descending=[True, *[False] * len(address)]).head(1)
    name, most = first.select(address_names(first), "len").row(0)
    once = percent(facts.filter(len=1).height / facts.height)
    text = f"{name} belongs to the most facts, {most:,}. All facts together have"
    return f"{text} {count(facts.height, 'different neuron')}; {once} belong to one fact only."


def facts_sentence(facts: pl.DataFrame) -> str:
    """How many of the facts the model knows."""
    known = facts.filter(pl.col("top1") >= KNOWN).height
    what = f"The model knows {known:,} of {count(facts.height, 'fact')} ({percent(known / max(facts.height, 1))})"
    return f"{what}: its first choice is the answer on at least half of the prompts."


def experts_sentence(neurons: pl.DataFrame) -> str:
    """Which experts of a mixture hold the knowledge neurons.

    >>> table = {"rule": ["gauss-legendre"] * 4, "fold": ["all"] * 4, "layer": [0, 1, 1, 1], "expert": [None, 2, 2, 5]}
    >>> experts_sentence(pl.DataFrame(table))
    '3 of the 4 are neurons of experts, of 2 different experts; L1.E2 holds the most, 2.'
    """
    own = neurons.filter(pl.col("rule") == main_rule(neurons), fold="all")
    experts = routed(neurons).group_by("layer", "expert").agg(pl.len())
    if experts.is_empty():
        return "None of them is a neuron of an expert."
    layer, expert, most = experts.sort("len", "layer", "expert", descending=[True, False, False]).row(0)
    total = experts["len"].sum()
    those = f"All {total:,}" if total == own.height else f"{total:,} of the {own.height:,}"
    of = count(experts.height, "different expert")
    return f"{those} are neurons of experts, of {of}; L{layer}.E{expert} holds the most, {most:,}."


def integration_sentence(prompts: pl.DataFrame, routing: str | None = None) -> str:
    """How exact the integration was, by its own account, and how a mixture of experts was routed during it."""
    spreads = {name: _spread(prompts.filter(unit=unit)) for unit, name in _UNITS.items()}
    gaps = "; ".join(f"in units of {name}, {spread}" for name, spread in spreads.items() if spread)
    if not gaps:
        return "No completeness gap was recorded."
    plain = prompts.filter(way="plain").height
    way = f"{plain:,} of {count(prompts.height, 'prompt')} took plain re-runs" if plain else "every prompt was replayed"
    told = {
        None: "",
        "free": " Routing to experts was free: P may jump where scaling neurons sends a position to other experts.",
        "frozen": " Routing to experts was frozen to that of the unchanged run; the interventions left it free.",
    }
    return f"Completeness gap of the scores, {gaps}; {way}.{told[routing]}"


_UNITS = {"P": "probability", "log P": "log P (answers of several tokens)"}


def _spread(prompts: pl.DataFrame) -> str:
    """Quantiles of the completeness gap; nothing where none was recorded."""
    gaps = sorted(abs(gap) for gap in prompts["gap"].drop_nulls().drop_nans())
    if not gaps:
        return ""
    high = gaps[int(0.95 * (len(gaps) - 1))]
    return f"median {median(gaps):.2g}, 95th percentile {high:.2g}, largest {gaps[-1]:.2g}"
