"""A language model with its sites of neurons: what `load` returns and everything else works on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal
from weakref import ref

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from neuronatlas.models.history import History
from neuronatlas.models.precision import SAME_PRODUCT
from neuronatlas.models.sites import Site, SiteError
from neuronatlas.models.stacks import StructureError
from neuronatlas.models.structure import Block
from neuronatlas.models.taps import asleep
from neuronatlas.models.weights import coded_modules, execution_device, is_plain, stored_tensors
from neuronatlas.neurons import Layout

__all__ = ["Kind", "Model", "ModelInputError", "digest_of"]

Kind = Literal["masked", "causal", "seq2seq"]
"""What a model is asked: a place inside a text, what follows it, or what its decoder makes of it."""
_LENGTHS = ("max_position_embeddings", "max_encoder_position_embeddings")
Seen = list[tuple[ref[Tensor] | None, tuple[object, ...]]]


class ModelInputError(ValueError):
    """Token ids that a model of this kind cannot be run on."""


@dataclass(eq=False)
class Model:
    """A loaded model: its module and tokenizer, its kind, its blocks, its proved sites and why others are missing.

    `blocks` are those of the stack that answers are read from; `encoder_blocks` those of the encoder of a
    sequence-to-sequence model, and () elsewhere. `sees_ahead` tells a model that is listed as causal and is not: what
    follows a token moves its logits, so that it can be read but not asked for what comes next.
    """

    module: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    kind: Kind
    name: str
    revision: str | None
    blocks: tuple[Block, ...]
    sites: dict[str, Site]
    missing: dict[str, str]
    default_site: str = "ffn"
    intervened_sites: list[str] = field(default_factory=list, repr=False)
    _digest: tuple[Seen, str] | None = field(default=None, repr=False)
    ways: dict[str, str] = field(default_factory=dict, repr=False)
    encoder_blocks: tuple[Block, ...] = ()
    history: History = field(default_factory=History, repr=False)
    row_arguments: dict[str, dict[str, bool]] = field(default_factory=dict, repr=False)
    sees_ahead: bool = False

    @property
    def has_experts(self) -> bool:
        """Whether there are layers of experts whose neurons, and routing, are within reach."""
        return any(block.experts is not None for block in self.blocks)

    @property
    def device(self) -> torch.device:
        """Device of the input embeddings, to which token ids go."""
        return execution_device(self.module.get_input_embeddings())

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the weights."""
        return self.module.dtype

    @property
    def max_length(self) -> int:
        """Most tokens that a prompt may have."""
        limits = (self.tokenizer.model_max_length, self._positions)
        # Some configurations say -1 where there is no limit.
        return min(limit for limit in limits if limit is not None and limit > 0)

    @cached_property
    def _positions(self) -> int | None:
        """How many tokens the model's positions are for; found once, as prompts are held against it one by one."""
        config = self.module.config
        # A model made of an encoder's and a decoder's own configurations says it there, some under a name of its own.
        named = (getattr(part, name, None) for part in (config, getattr(config, "encoder", None)) for name in _LENGTHS)
        positions = next((value for value in named if isinstance(value, int)), None)
        if positions is None:
            return None
        # Position tables that start after the padding index (RoBERTa's) hold that many fewer.
        tables = (m.padding_idx + 1 for n, m in self.module.named_modules() if _is_offset_table(n, m))
        return positions - max(tables, default=0)

    @property
    def digest(self) -> str:
        """SHA-256 over the weights (names, dtypes, shapes, bytes), its first 16 digits; follows changes in place.

        The same wherever the weights lie. A change through `.data` leaves no trace in a tensor and is not seen, nor is
        one of weights that are offloaded.
        """
        seen = [_trace(name, tensor) for name, tensor in _held(self.module)]
        if self._digest is None or not _same(self._digest[0], seen):
            self._digest = (seen, digest_of(self.module))
        return self._digest[1]

    def site(self, name: str | None = None) -> Site:
        """A proved site; SiteError with the reason when the model does not have it."""
        name = name or self.default_site
        if name not in self.sites:
            reason = self.missing.get(name, f"there is no such site; sites are {', '.join(self.sites)}")
            raise SiteError(f"{self.name} has no site {name!r}: {reason}")
        return self.sites[name]

    def layout(self, site: str | None = None) -> Layout:
        """Layout of the neurons at a site."""
        found = self.site(site)
        in_encoder = self.kind == "masked" or found.name.startswith("encoder.")
        return Layout(found.name, found.widths, "encoder" if in_encoder else "decoder", self.digest, found.experts)

    def logits(
        self,
        ids: Int[Tensor, "row position"],
        decoder_ids: Int[Tensor, "row decoder_position"] | None = None,
        mask: Int[Tensor, "row position"] | None = None,
    ) -> Float[Tensor, "row position token"]:
        """Logits of token ids that carry no padding, or of which the attention `mask` says what is none.

        A sequence-to-sequence model needs the decoder's ids beside the encoder's, of any length, and gives the logits
        of the decoder's positions; other models take none.

        Errors: ModelInputError when decoder ids are missing, or given to a model without a decoder of its own.
        """
        if (decoder_ids is not None) != (self.kind == "seq2seq"):
            what = "no decoder ids" if decoder_ids is None else "decoder ids"
            wanted = "give those of the decoder too" if decoder_ids is None else "give token ids alone"
            raise ModelInputError(f"{what} for {self.name}, a {self.kind} model: {wanted}")
        return run_model(self.module, ids, decoder_ids, mask)

    @property
    def probe_ids(self) -> Int[Tensor, "row position"]:
        """A few rows of fixed random tokens, none of them special (padding would be masked out), for proofs."""
        return probe_ids(self.module, self.tokenizer)

    @property
    def probe_decoder_ids(self) -> Int[Tensor, "row decoder_position"] | None:
        """As many rows for the decoder of a sequence-to-sequence model, of another length; None elsewhere."""
        return probe_decoder_ids(self.module, self.tokenizer) if self.kind == "seq2seq" else None

    @property
    def decoder_start(self) -> int | None:
        """The token that the decoder of a sequence-to-sequence model starts with; None where the model does not say."""
        # Some say it only to those that generate, some only in their configuration.
        places = (self.module.generation_config, self.module.config)
        found = (getattr(place, "decoder_start_token_id", None) for place in places)
        return next((token for token in found if isinstance(token, int)), None)

    @contextmanager
    def intervening(self, site: str) -> Iterator[None]:
        """Mark that an intervention is active, so that attribution re-runs the whole model instead of replaying."""
        self.intervened_sites.append(site)
        try:
            yield
        finally:
            self.intervened_sites.remove(site)

    @contextmanager
    def proving(self) -> Iterator[None]:
        """Let the interventions and captures that are active step aside: for proofs, which are of the model as it is.

        What was found is kept for good, and runs on prompts that an intervention was not made for.
        """
        active = list(self.intervened_sites)
        self.intervened_sites.clear()
        try:
            with asleep(self.module):
                yield
        finally:
            self.intervened_sites[:] = active


def run_model(
    module: PreTrainedModel,
    ids: Int[Tensor, "row position"],
    decoder_ids: Int[Tensor, "row decoder_position"] | None = None,
    mask: Int[Tensor, "row position"] | None = None,
) -> Float[Tensor, "row position token"]:
    """Logits of token ids, none of them padding without a mask; decoder ids are for models with a decoder beside."""
    given = {"input_ids": ids, "attention_mask": torch.ones_like(ids) if mask is None else mask}
    if decoder_ids is not None:
        # Said to be whole: the token that a decoder starts with is often the one that pads.
        given |= {"decoder_input_ids": decoder_ids, "decoder_attention_mask": torch.ones_like(decoder_ids)}
    logits: Tensor = module(**given, use_cache=False).logits
    return logits


def sees_ahead(module: PreTrainedModel, ids: Int[Tensor, "row position"]) -> bool:
    """Whether another last token moves the logits before it, beyond rounding."""
    other = ids.clone()
    other[:, -1] = ids[:, 0].flip(0)
    with torch.no_grad():
        moved = (run_model(module, ids) - run_model(module, other)).abs().amax((0, 2))
    allowed = SAME_PRODUCT.coarse if coded_modules(module) else SAME_PRODUCT.of(module.dtype)
    return bool(moved[:-1].max() > allowed * moved[-1])


def probe_ids(module: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Int[Tensor, "2 7"]:
    """Two rows of seven fixed random tokens that are not special."""
    weight = getattr(module.get_input_embeddings(), "weight", None)
    if not isinstance(weight, Tensor):
        raise StructureError("its input embeddings are not one table with a vector for each token")
    return _plain_tokens(tokenizer, weight.shape[0], 7).to(execution_device(module.get_input_embeddings()))


def probe_decoder_ids(module: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Int[Tensor, "2 5"]:
    """Two rows of five fixed random tokens that are not special and that the decoder can give."""
    tables = [
        getattr(table, "weight", None) for table in (module.get_output_embeddings(), module.get_input_embeddings())
    ]
    sizes = [weight.shape[0] for weight in tables if isinstance(weight, Tensor)]
    if not sizes:
        raise StructureError("its embeddings are not tables with a vector for each token")
    return _plain_tokens(tokenizer, sizes[0], 5).to(probe_ids(module, tokenizer).device)


def _plain_tokens(tokenizer: PreTrainedTokenizerBase, vocabulary: int, length: int) -> Int[Tensor, "2 position"]:
    plain = sorted(set(range(min(len(tokenizer), vocabulary))) - set(tokenizer.all_special_ids))
    picks = torch.randint(len(plain), (2, length), generator=torch.Generator().manual_seed(0))
    return torch.tensor(plain)[picks]


def _same(earlier: Seen, now: Seen) -> bool:
    """Whether these are the very same tensors, unchanged; tensors themselves would compare element by element."""
    pairs = zip(earlier, now, strict=False)
    return len(earlier) == len(now) and all(_here(a) is _here(b) and old == new for (a, old), (b, new) in pairs)


def _here(reference: ref[Tensor] | None) -> Tensor | None:
    return None if reference is None else reference()


def _is_offset_table(name: str, module: torch.nn.Module) -> bool:
    return isinstance(module, torch.nn.Embedding) and "position" in name and module.padding_idx is not None


def _held(module: PreTrainedModel) -> Iterator[tuple[str, Tensor]]:
    """All tensors of a module: its own, not copies that some modules make of codes for `state_dict`."""
    yield from module.named_parameters(remove_duplicate=False)
    yield from module.named_buffers(remove_duplicate=False)


def _trace(name: str, tensor: Tensor) -> tuple[ref[Tensor] | None, tuple[object, ...]]:
    """What tells a tensor from what it was. References, not ids: a new tensor may lie where a dead one lay."""
    if tensor.is_meta:  # a stand-in of offloaded weights, a new one after each call
        return None, (name,)
    address = tensor.data_ptr() if is_plain(tensor) else 0
    return ref(tensor), (name, address, tensor.dtype, tensor._version)


def digest_of(module: PreTrainedModel) -> str:
    """SHA-256 over a module's weights, as `Model.digest` gives it."""
    digest, stored = hashlib.sha256(), stored_tensors(module)
    for name, tensor in sorted(module.state_dict(keep_vars=True).items()):
        if tensor.is_meta:
            kept, key = stored[name]
            tensor = kept[key]  # noqa: PLW2901 - one at a time: all of them may not fit
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)};".encode())
        for part in _parts(tensor.detach()):
            digest.update(part.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]


def _parts(tensor: Tensor) -> Iterator[Tensor]:
    """The tensor itself, or the codes, scales and so on of which a quantised one is made, unless they are empty."""
    if hasattr(tensor, "__tensor_flatten__"):
        for name in tensor.__tensor_flatten__()[0]:
            yield from _parts(getattr(tensor, name))
    elif tensor.numel():
        yield tensor
