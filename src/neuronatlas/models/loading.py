"""Loads a language model from a hub id, a folder or memory, and proves its sites."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError
from torch import Tensor
from transformers import AutoConfig, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.models.auto import modeling_auto

from neuronatlas.models.experts import ExpertsError, choose
from neuronatlas.models.heads import disprove_head
from neuronatlas.models.model import Kind, Model, probe_ids
from neuronatlas.models.sites import Site, SiteError, propose_sites, prove
from neuronatlas.models.structure import Block, StructureError, find_blocks, trace_blocks

__all__ = ["ModelError", "load"]


class ModelError(ValueError):
    """A model that cannot be loaded or is not supported, with the reason."""


def load(
    source: str | Path | tuple[PreTrainedModel, PreTrainedTokenizerBase],
    *,
    revision: str | None = None,
    device: str = "auto",
    dtype: str = "auto",
    site: str = "ffn",
    trust_remote_code: bool = False,
) -> Model:
    """Load a masked or causal language model and prove where its neurons are.

    `source` is a Hugging Face hub id, a folder, or a `(model, tokenizer)` pair in memory (set to evaluation mode).
    `device="auto"` takes a GPU when there is one; `dtype="auto"` takes the stored one, or float32 on a CPU. Only
    safetensors weights are read. `site` is the default site of everything done with the model.

    Errors: ModelError when it is not a model, its weights do not fit, or its structure is not understood; SiteError
    when the default site is missing or fails its proof.

    >>> from neuronatlas.specimen import specimen_folder
    >>> model = load(specimen_folder())
    >>> model.kind, model.site("ffn").name
    ('masked', 'ffn')
    """
    if isinstance(source, tuple):
        module, tokenizer = source
        if not isinstance(module, PreTrainedModel):
            raise ModelError(f"{type(module).__name__} is not a model of transformers")
        name, kind = module.name_or_path or type(module).__name__, _kind(type(module).__name__, module.config)
    else:
        module, tokenizer, kind = _from_pretrained(str(source), revision, device, dtype, trust_remote_code)
        name = str(source)
    module.eval()
    revision = getattr(module.config, "_commit_hash", None) or revision
    return _with_sites(module, tokenizer, kind, name, revision, site)


def _with_sites(
    module: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, kind: Kind, name: str, revision: str | None, site: str
) -> Model:
    try:
        run = _probe(module, tokenizer)
        calls = trace_blocks(module, run)
        blocks = find_blocks(module, calls)
    except StructureError as error:
        raise ModelError(f"{name}: {error}") from error
    blocks = _with_experts(module, blocks, run)
    proposed, missing = propose_sites(blocks, calls)
    sites = {}
    for proposal in proposed.values():
        try:
            sites[proposal.name] = Site(proposal.name, proposal.points, prove(module, proposal, run, blocks))
        except SiteError as error:
            missing[proposal.name] = str(error)
    model = Model(module, tokenizer, kind, name, revision, blocks, sites, missing, site)
    model.site(site)
    model.ways["head"] = disprove_head(model)
    return model


def _with_experts(module: PreTrainedModel, blocks: tuple[Block, ...], run: Callable[[], Tensor]) -> tuple[Block, ...]:
    """Make the experts' neurons reachable, or say in their blocks why they cannot be."""
    experts = [block.experts for block in blocks if block.experts is not None]
    if not experts:
        return blocks
    try:
        if len({part.module for part in experts}) < len(experts):
            raise ExpertsError("layers share their experts")
        if any(block.experts is None and block.ffn is None for block in blocks):
            return blocks
        choose(module, experts, run)
    except ExpertsError as error:
        return tuple(
            replace(block, experts=None, reason=str(error), unaccounted=True) if block.experts else block
            for block in blocks
        )
    return blocks


def _probe(module: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Callable[[], Tensor]:
    ids = probe_ids(module, tokenizer)

    def run() -> Tensor:
        logits: Tensor = module(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits
        return logits

    try:
        with torch.no_grad():
            run()
    except Exception as error:  # whatever it wants beside them, the answer is the same
        reason = " ".join(str(error).split())
        raise StructureError(f"it does not run on token ids alone ({type(error).__name__}: {reason})") from error
    return run


def _kind(architecture: str, config: Any) -> Kind:
    if architecture in modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES.values():
        return "masked"
    if architecture in modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values():
        return "causal"
    if architecture not in modeling_auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES.values():
        if config.model_type in modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES:
            return "masked"
        if config.model_type in modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
            return "causal"
    raise ModelError(
        f"{architecture} ({config.model_type}) is neither a masked nor a causal language model of transformers"
    )


def _from_pretrained(
    source: str, revision: str | None, device: str, dtype: str, trust_remote_code: bool
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, Kind]:
    source = _check_source(source)
    target = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    options: dict[str, Any] = {"revision": revision or "main", "trust_remote_code": trust_remote_code}
    try:
        config = AutoConfig.from_pretrained(source, **options)
        kind = _kind((config.architectures or [""])[0], config)
        auto: Any = transformers.AutoModelForMaskedLM if kind == "masked" else transformers.AutoModelForCausalLM
        module, report = auto.from_pretrained(
            source,
            config=config,
            dtype=_dtype(dtype, target),
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
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
    try:
        return module.to(target), tokenizer, kind
    except (RuntimeError, AssertionError) as error:
        raise ModelError(f"no device {target!r}: {str(error).splitlines()[0]}") from error


def _check_source(source: str) -> str:
    path = Path(source).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise ModelError(f"folder {source!r} is not a model: it has no config.json")
        return str(path)
    if path.exists() or source.startswith((".", "/", "~")) or source.count("/") > 1:
        raise ModelError(f"{source!r} is not a folder with a model; give a folder or a hub id such as bert-base-cased")
    return source


def _dtype(dtype: str, device: str) -> str | torch.dtype:
    if dtype == "auto":
        return torch.float32 if device == "cpu" else "auto"
    found = getattr(torch, dtype, None)
    if not isinstance(found, torch.dtype):
        raise ModelError(f"no dtype {dtype!r}: expected auto, float32, bfloat16, float16 or float64")
    return found
