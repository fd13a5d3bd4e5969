"""Loads a language model from a hub id, a folder or memory, and proves its sites."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError
from torch import Tensor
from transformers import AutoConfig, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.models.auto import modeling_auto
from transformers.utils.quantization_config import QuantizationConfigMixin

from neuronatlas.models.experts import ExpertsError, choose
from neuronatlas.models.heads import disprove_head
from neuronatlas.models.model import Kind, Model, probe_decoder_ids, probe_ids, run_model, sees_ahead
from neuronatlas.models.placement import DeviceMap, ModelError, Placement
from neuronatlas.models.sites import SITES, Site, SiteError, propose_sites, prove
from neuronatlas.models.stacks import Stack, StructureError, trace_blocks, trace_stacks
from neuronatlas.models.structure import Block, find_blocks

__all__ = ["ModelError", "load"]


_TABLES: dict[Kind, Mapping[str, str | tuple[str, ...]]] = {
    "masked": modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    "causal": modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    "seq2seq": modeling_auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
}
_TYPES = {kind: frozenset(table) for kind, table in _TABLES.items()}
_CLASSES = {
    kind: frozenset(name for names in table.values() for name in ((names,) if isinstance(names, str) else names))
    for kind, table in _TABLES.items()
}


def load(
    source: str | Path | tuple[PreTrainedModel, PreTrainedTokenizerBase],
    *,
    revision: str | None = None,
    device: str = "auto",
    device_map: DeviceMap | None = None,
    memory: Mapping[int | str, int | str] | None = None,
    offload_folder: str | Path | None = None,
    dtype: str = "auto",
    quantization: QuantizationConfigMixin | None = None,
    site: str | None = "ffn",
    trust_remote_code: bool = False,
) -> Model:
    """Load a masked, causal or sequence-to-sequence language model and prove where its neurons are.

    `source` is a Hugging Face hub id, a folder, or a `(model, tokenizer)` pair in memory (set to evaluation mode).
    `device="auto"` takes a GPU when there is one; `dtype="auto"` takes the stored one, or float32 on a CPU. Only
    safetensors weights are read. `site` is the default site of everything done with the model; None takes the first of
    `ffn`, `attention` and `hidden` that is proved.

    A model too large for one device is spread by `device_map`, as `from_pretrained` takes it: `"auto"`, or modules'
    paths and where each goes, a device, `"cpu"` or `"disk"`; `memory` is the most that each may hold (`{0: "20GB",
    "cpu": "60GB"}`) and `offload_folder` the place on a disk. That needs accelerate (`neuronatlas[large]`), and
    `dtype="auto"` then takes the stored one. `quantization` is a configuration of transformers for 8- or 4-bit weights;
    weights that are stored so need none.

    Errors: ModelError when it is not a model, its weights do not fit, or its structure is not understood; SiteError
    when the default site is missing or fails its proof.

    >>> from neuronatlas.specimen import specimen_folder
    >>> model = load(specimen_folder())
    >>> model.kind, model.site("ffn").name
    ('masked', 'ffn')
    """
    placed = Placement(device, device_map, memory, offload_folder, quantization)
    placed.check(in_memory=isinstance(source, tuple))
    if isinstance(source, tuple):
        module, tokenizer = source
        if not isinstance(module, PreTrainedModel):
            raise ModelError(f"{type(module).__name__} is not a model of transformers")
        name, kind = module.name_or_path or type(module).__name__, _kind(type(module).__name__, module.config)
    else:
        module, tokenizer, kind = _from_pretrained(str(source), revision, placed, dtype, trust_remote_code)
        name = str(source)
    module.eval()
    revision = getattr(module.config, "_commit_hash", None) or revision
    return _with_sites(module, tokenizer, kind, name, revision, site)


def _with_sites(
    module: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    kind: Kind,
    name: str,
    revision: str | None,
    site: str | None,
) -> Model:
    sites: dict[str, Site] = {}
    missing: dict[str, str] = {}
    found: list[tuple[Block, ...]] = []
    try:
        run, stacks = _trace(module, tokenizer, kind)
        blocks = [find_blocks(module, stack) for stack in stacks]
    except StructureError as error:
        raise ModelError(f"{name}: {error}") from error
    for stack, own, prefix in zip(stacks, _with_experts(module, blocks, run), ("", "encoder."), strict=False):
        proposed, lacking = propose_sites(own, stack, prefix)
        missing |= lacking
        found.append(own)
        for proposal in proposed.values():
            try:
                proofs = prove(module, proposal, run, own, stack.positions)
                sites[proposal.name] = Site(proposal.name, proposal.points, proofs)
            except SiteError as error:
                missing[proposal.name] = str(error)
    site = site or next((proved for proved in SITES if proved in sites), SITES[0])
    model = Model(module, tokenizer, kind, name, revision, found[0], sites, missing, site)
    model.encoder_blocks = found[1] if len(found) > 1 else ()
    model.sees_ahead = kind == "causal" and sees_ahead(module, model.probe_ids)
    model.site(site)
    # Prompts of two sequences are run whole: there is no head to prove on single positions of one.
    model.ways["head"] = "the model has two stacks of blocks" if kind == "seq2seq" else disprove_head(model)
    return model


def _trace(
    module: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, kind: Kind
) -> tuple[Callable[[], Tensor], tuple[Stack, ...]]:
    """A run of fixed tokens and the stacks that it goes through, the one that answers are read from first."""
    ids = probe_ids(module, tokenizer)
    decoder_ids = probe_decoder_ids(module, tokenizer) if kind == "seq2seq" else None
    run = partial(run_model, module, ids, decoder_ids)
    try:
        with torch.no_grad():
            run()
    except Exception as error:  # whatever it wants beside them, the answer is the same
        reason = " ".join(str(error).split())
        raise StructureError(f"it does not run on token ids alone ({type(error).__name__}: {reason})") from error
    if decoder_ids is None:
        return run, (trace_blocks(module, run),)
    turned = partial(run_model, module, ids, decoder_ids.flip(1))
    return run, trace_stacks(module, run, turned, ids.shape[1])


def _with_experts(
    module: PreTrainedModel, stacks: Sequence[tuple[Block, ...]], run: Callable[[], Tensor]
) -> list[tuple[Block, ...]]:
    """Make the experts' neurons reachable, or say in their blocks why they cannot be."""
    usable = [blocks for blocks in stacks if all(b.experts or b.ffn or b.bare for b in blocks)]
    experts = [block.experts for blocks in stacks for block in blocks if block.experts is not None]
    wanted = [block.experts for blocks in usable for block in blocks if block.experts is not None]
    try:
        if len({part.module for part in experts}) < len(experts):
            raise ExpertsError("layers share their experts")
        if wanted:
            choose(module, experts, run)
    except ExpertsError as error:
        reason = str(error)
        return [
            tuple(replace(b, experts=None, reason=reason, unaccounted=True) if b.experts else b for b in blocks)
            for blocks in stacks
        ]
    return list(stacks)


def _kind(architecture: str, config: Any) -> Kind:
    """What a class is for, by transformers' tables; one that they lack, by those that have its type of model."""
    for name, tables in ((architecture, _CLASSES), (config.model_type, _TYPES)):
        if name in tables["seq2seq"] and getattr(config, "is_encoder_decoder", False):
            return "seq2seq"
        if name in tables["masked"]:
            return "masked"
        # Some that are listed as sequence-to-sequence read sound or images into a text that one stack goes on with.
        if name in tables["causal"] or name in tables["seq2seq"]:
            return "causal"
    raise ModelError(
        f"{architecture} ({config.model_type}) is neither a masked, a causal nor a sequence-to-sequence language model "
        "of transformers"
    )


def _auto_class(config: Any, kind: Kind) -> Any:
    """The class of transformers that makes the model of a configuration."""
    if kind == "masked":
        return transformers.AutoModelForMaskedLM
    listed = config.model_type in _TYPES["causal"] or hasattr(config, "auto_map")
    return transformers.AutoModelForCausalLM if kind == "causal" and listed else transformers.AutoModelForSeq2SeqLM


def _from_pretrained(
    source: str, revision: str | None, placed: Placement, dtype: str, trust_remote_code: bool
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, Kind]:
    source = _check_source(source)
    options: dict[str, Any] = {"revision": revision or "main", "trust_remote_code": trust_remote_code}
    try:
        config = AutoConfig.from_pretrained(source, **options)
        kind = _kind((config.architectures or [""])[0], config)
        module, report = _auto_class(config, kind).from_pretrained(
            source,
            config=config,
            dtype=_dtype(dtype, placed.default_dtype(config)),
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            **placed.options(config),
            **options,
        )
        tokenizer = AutoTokenizer.from_pretrained(source, **options)
    except ModelError:
        raise
    except (OSError, RuntimeError, ValueError, KeyError, ImportError, SafetensorError) as error:
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ModelError(f"{source!r} cannot be loaded as a model: {reason}") from error
    if report["missing_keys"]:
        names = sorted(report["missing_keys"])
        raise ModelError(
            f"{source!r}: the weights lack {len(names)} tensors of {type(module).__name__}, such as {names[0]}"
        )
    if report["mismatched_keys"]:
        name, stored, expected = sorted(report["mismatched_keys"])[0]
        raise ModelError(f"{source!r}: the weights do not fit: {name} is {tuple(stored)}, {tuple(expected)} expected")
    if not set(range(len(tokenizer))) - set(tokenizer.all_special_ids):
        raise ModelError(f"{source!r}: no tokenizer with a vocabulary was found")
    return placed.settled(module), tokenizer, kind


def _check_source(source: str) -> str:
    path = Path(source).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise ModelError(f"folder {source!r} is not a model: it has no config.json")
        return str(path)
    if path.exists() or source.startswith((".", "/", "~")) or source.count("/") > 1:
        raise ModelError(f"{source!r} is not a folder with a model; give a folder or a hub id such as bert-base-cased")
    return source


def _dtype(dtype: str, default: str | torch.dtype) -> str | torch.dtype:
    if dtype == "auto":
        return default
    found = getattr(torch, dtype, None)
    if not isinstance(found, torch.dtype):
        raise ModelError(f"no dtype {dtype!r}: expected auto, float32, bfloat16, float16 or float64")
    return found
