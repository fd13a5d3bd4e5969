"""Arguments and options that several commands take, and how their texts are read."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

import typer

from neuronatlas.knowledge.corruptions import CORRUPTIONS
from neuronatlas.knowledge.quadrature import DEFAULT_RULE, QUADRATURES
from neuronatlas.knowledge.rules import RULES
from neuronatlas.models import SITES
from neuronatlas.models.memory import MemoryLimitError, as_bytes
from neuronatlas.models.ways import Routing

__all__ = [
    "AsJson",
    "AtlasFolder",
    "Budget",
    "CorruptionName",
    "Device",
    "Dtype",
    "FactName",
    "FactsFile",
    "Gains",
    "Limit",
    "ModelName",
    "NeuronNames",
    "NeuronsOfAtlas",
    "Output",
    "Position",
    "Relations",
    "Revision",
    "RoutingName",
    "RuleName",
    "SiteName",
    "SiteOfNeurons",
    "Steps",
    "as_budget",
    "as_gains",
    "as_names",
    "as_position",
    "as_share",
    "by_language",
    "require_source",
]

_MODEL, _RUN = "Model", "Method"

ModelName = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A hub id such as bert-base-cased, a folder, or a model in the package: `specimen`, `specimen-causal`.",
    ),
]
FactsFile = Annotated[
    str,
    typer.Argument(
        metavar="FACTS",
        help="A file of facts: JSON lines or CSV with relation, subject, answer and prompt, or ParaRel's bags, also "
        "gzipped. Or the word `specimen` or `specimen-causal` for the facts that this model was trained on.",
    ),
]
AtlasFolder = Annotated[Path, typer.Argument(metavar="DIR", help="The folder of an atlas.")]
Output = Annotated[
    Path,
    typer.Option("--output", "-o", metavar="DIR", help="Where the atlas and the report go; resumes what is there."),
]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print one JSON document and nothing else on the standard output.")
]

Revision = Annotated[
    str | None, typer.Option(metavar="REV", help="Branch, tag or commit of a hub id.", rich_help_panel=_MODEL)
]
Device = Annotated[
    str,
    typer.Option(
        help="cpu, cuda, cuda:1, mps; auto takes a GPU where there is one; spread uses all of them, then memory.",
        rich_help_panel=_MODEL,
    ),
]
Dtype = Annotated[
    str,
    typer.Option(help="float32, bfloat16, ...; auto is float32 on a CPU, else as stored.", rich_help_panel=_MODEL),
]

Relations = Annotated[
    list[str] | None,
    typer.Option(metavar="P36,P37", help="Only these relations of the file: with commas between, or the option again."),
]
Limit = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="At most so many facts of each relation, the first.")
]
RuleName = Annotated[str, typer.Option(help=f"How scores are computed: {', '.join(RULES)}.", rich_help_panel=_RUN)]
Steps = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="K",
        help=f"Points of the integral ({QUADRATURES[DEFAULT_RULE].steps} for {DEFAULT_RULE}, "
        f"{QUADRATURES[DEFAULT_RULE].kinked_steps} where neurons have kinks as with ReLU; 20 for the Riemann sums).",
        rich_help_panel=_RUN,
    ),
]
CorruptionName = Annotated[
    str,
    typer.Option(
        help=f"How prompts are corrupted for --rule attribution-patching: {', '.join(CORRUPTIONS)}.",
        rich_help_panel=_RUN,
    ),
]
SiteName = Annotated[
    str,
    typer.Option(
        help=f"Which neurons: {', '.join(SITES)}; encoder.ffn and so on where there is a decoder too.",
        rich_help_panel=_RUN,
    ),
]
SiteOfNeurons = Annotated[
    str,
    typer.Option(
        help=f"Which neurons --neurons are: {', '.join(SITES)}; encoder.ffn and so on where there is a decoder too "
        "(with --atlas, the atlas's own site is taken).",
        rich_help_panel=_RUN,
    ),
]
Position = Annotated[
    str,
    typer.Option(
        help="Where neurons are looked at: answer, subject (its last token), or a token's index.", rich_help_panel=_RUN
    ),
]
RoutingName = Annotated[
    Routing,
    typer.Option(
        help="In a mixture of experts, whether scaled rows go to the experts that they choose, or to those of the "
        "unchanged run.",
        rich_help_panel=_RUN,
    ),
]
NeuronsOfAtlas = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Take the neurons from this atlas of the model.")
]
NeuronNames = Annotated[
    list[str] | None,
    typer.Option(metavar="L3.U10,L3.U77", help="Or these neurons: with commas between, or the option again."),
]
FactName = Annotated[str, typer.Option(help="Which fact of the selection: its subject, or its number, counted from 0.")]
Gains = Annotated[
    str,
    typer.Option(
        metavar="0,2",
        help="Factors of the interventions, with commas between: 0 suppresses, 2 doubles.",
        rich_help_panel=_RUN,
    ),
]

Budget = Annotated[
    str,
    typer.Option(
        metavar="N|auto|8GB",
        help="Token positions computed at once; auto finds how many fit into what memory is free, 8GB how many keep to "
        "that.",
        rich_help_panel=_RUN,
    ),
]


def as_budget(text: str) -> int | str:
    """Read a number of token positions, `auto`, or an amount of memory."""
    if text.isdecimal() and int(text):
        return int(text)
    if text != "auto":
        try:
            as_bytes(text)
        except MemoryLimitError as error:
            raise typer.BadParameter(f"{error}, a number of positions, or auto", param_hint="--budget") from None
    return text


def as_names(texts: str | Iterable[str] | None) -> list[str] | None:
    """Read names with commas between, each text some of them; None where the option was not given.

    >>> as_names(["P36, P37", "P103"]), as_names("lca,probeless"), as_names(None)
    (['P36', 'P37', 'P103'], ['lca', 'probeless'], None)
    """
    if texts is None:
        return None
    parts = ",".join([texts] if isinstance(texts, str) else texts).split(",")
    return [name.strip() for name in parts if name.strip()]


def by_language(texts: Iterable[str], option: str) -> dict[str, str]:
    """Read `de=FILE`, once for each language.

    >>> by_language(["de=german.conllu", " es = specimen"], "--language")
    {'de': 'german.conllu', 'es': 'specimen'}
    """
    found: dict[str, str] = {}
    for text in texts:
        name, _, file = (part.strip() for part in text.partition("="))
        if not name or not file or name in found:
            raise typer.BadParameter(
                f"{text!r}: a language, =, and its file expected, once for each language", param_hint=option
            )
        found[name] = file
    return found


def require_source(atlas: Path | None, neurons: list[str] | None) -> None:
    """Refuse neurons that are given twice, or not at all."""
    if (atlas is None) == (neurons is None):
        raise typer.BadParameter("give one of --atlas and --neurons", param_hint="--atlas / --neurons")


def as_gains(text: str) -> tuple[float, ...]:
    """Read numbers with commas between."""
    try:
        gains = tuple(float(part) for part in text.split(","))
    except ValueError:
        gains = ()
    if not gains or not all(map(math.isfinite, gains)):
        raise typer.BadParameter(f"{text!r}: numbers with commas between expected, such as 0,2", param_hint="--gains")
    return gains


def as_position(text: str) -> str | int:
    """Read `answer`, `subject` or a token's index."""
    return int(text) if text.removeprefix("-").isdecimal() else text


def as_share(text: str) -> float | Literal["tuned"]:
    """Read `tuned` or a share of prompts."""
    if text == "tuned":
        return "tuned"
    try:
        return float(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r}: a number up to 1, or tuned, expected", param_hint="--share") from None
