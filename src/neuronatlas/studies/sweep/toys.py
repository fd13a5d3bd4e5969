"""Toy models of every language-model class that transformers has: random weights, small enough to try them all.

A toy is made from its configuration class by one recipe: attributes that say how large a model is become small wherever
a configuration has them, sub-configurations too. What the recipe cannot know is in `HELP`.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
import transformers
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers.models import WordLevel
from transformers import CONFIG_MAPPING, AutoConfig, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerFast
from transformers.models.auto import modeling_auto

from neuronatlas.studies.sweep.help import AS_IS, HELP

__all__ = ["Architecture", "Kind", "architectures", "build", "toy_tokenizer"]

Kind = Literal["causal", "masked", "seq2seq"]

VOCABULARY = 100
_FRESH = 0.05
"""Standard deviation below which weights are taken to be freshly drawn: mostly 0.02."""
_IDS = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3, "decoder_start_token_id": 2}
_WIDTHS = (
    "hidden_size d_model n_embd dim emb_dim embedding_dim embedding_size decoder_hidden_size input_embedding_size "
    "encoder_hidden_dim word_embed_proj_dim lru_width"
)
_LAYERS = (
    "num_hidden_layers num_layers n_layer n_layers layers encoder_layers decoder_layers num_encoder_layers "
    "num_decoder_layers decoder_num_hidden_layers depth num_blocks speech_encoder_layers t2u_encoder_layers "
    "t2u_decoder_layers"
)
_HEADS = (
    "num_attention_heads num_heads n_head n_heads heads encoder_attention_heads decoder_attention_heads "
    "num_encoder_attention_heads num_decoder_attention_heads attention_heads decoder_num_attention_heads "
    "speech_encoder_attention_heads t2u_encoder_attention_heads t2u_decoder_attention_heads"
)
_FFN = (
    "intermediate_size ffn_dim encoder_ffn_dim decoder_ffn_dim d_ff d_inner n_inner ffn_hidden_size "
    "intermediate_size_mlp decoder_intermediate_size speech_encoder_intermediate_size t2u_encoder_ffn_dim "
    "t2u_decoder_ffn_dim"
)
_POSITIONS = "max_position_embeddings n_positions max_seq_len max_source_positions max_target_positions n_ctx"
_HEAD_WIDTHS = (
    "head_dim d_kv d_head v_head_dim qk_rope_head_dim qk_nope_head_dim qk_head_dim linear_key_head_dim "
    "linear_value_head_dim index_head_dim global_head_dim swa_head_dim swa_v_head_dim mamba_d_head mamba_head_dim "
    "attention_head_dim kv_channels linear_head_dim indexer_head_dim"
)
_EXPERTS = (
    "num_experts num_local_experts n_routed_experts moe_num_experts num_routed_experts num_experts_per_layer "
    "num_experts_total"
)
_CHOSEN = "num_experts_per_tok top_k_experts moe_topk moe_top_k moe_k num_experts_per_token num_selected_experts"
_EXPERT_WIDTHS = (
    "moe_intermediate_size shared_expert_intermediate_size expert_ffn_hidden_size shared_intermediate_size "
    "expert_ffn_size moe_ffn_hidden_size moe_shared_expert_intermediate_size"
)
_RANKS = "q_lora_rank kv_lora_rank o_lora_rank adapter_rank laurel_rank hidden_size_per_layer_input hc_lowrank"
_STATES = "state_size mamba_d_state ssm_state_size chunk_size mamba_chunk_size time_step_rank"


def _named(names: str, size: int) -> dict[str, int]:
    return dict.fromkeys(names.split(), size)


SMALL: dict[str, Any] = {
    **_named("vocab_size vocab_size_per_layer_input decoder_vocab_size t2u_vocab_size", VOCABULARY),
    **_named(_WIDTHS, 32),
    **_named(_LAYERS, 4),
    **_named(_HEADS, 4),
    **_named("num_key_value_heads num_kv_heads n_head_kv num_global_key_value_heads swa_num_key_value_heads", 2),
    **_named("linear_num_key_heads linear_num_value_heads index_n_heads swa_num_attention_heads", 4),
    **_named("mamba_num_heads mamba_n_heads", 8),
    **_named(_FFN, 48),
    **_named(_POSITIONS, 64),
    **_named(_HEAD_WIDTHS, 8),
    **_named(_EXPERTS, 4),
    **_named(_CHOSEN, 2),
    **_named(_EXPERT_WIDTHS, 24),
    **_named(_RANKS, 8),
    **_named(_STATES, 8),
    **_named("n_group topk_group first_k_dense_replace n_shared_experts num_shared_experts", 1),
    **_named("sliding_window attention_chunk_size sliding_window_size window_size", 16),
    **_named("mamba_expand expand", 2),
    **_IDS,
}
"""What is made small, wherever a configuration has an attribute of the name."""


@dataclass(frozen=True)
class Architecture:
    """A language-model class as transformers' tables name it."""

    model_type: str
    class_name: str
    kind: Kind

    @property
    def name(self) -> str:
        """What tells it from all others."""
        return f"{self.kind}:{self.model_type}"


def architectures(kinds: tuple[Kind, ...] = ("causal", "masked", "seq2seq")) -> list[Architecture]:
    """Every entry of transformers' tables of language models, in their order.

    >>> len(architectures(("masked",))) > 40
    True
    """
    tables: dict[Kind, Mapping[str, str | tuple[str, ...]]] = {
        "causal": modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        "masked": modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES,
        "seq2seq": modeling_auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
    }
    return [
        Architecture(model_type, names if isinstance(names, str) else names[0], kind)
        for kind in kinds
        for model_type, names in tables[kind].items()
    ]


def build(architecture: Architecture) -> PreTrainedModel:
    """The architecture at toy size, in evaluation mode, with random weights that are the same every time.

    Errors: whatever transformers raises where it cannot be built, such as ImportError for a library that is missing.
    """
    helped = HELP.get(architecture.name, HELP.get(architecture.model_type, {}))
    model_class: Any = getattr(transformers, architecture.class_name)
    config: Any = small_config(CONFIG_MAPPING[architecture.model_type], helped)
    parts = [getattr(config, name, None) for name in config.sub_configs or {}]
    # A class for text alone takes the part of a larger model's configuration that is about text.
    config = next((part for part in parts if type(part) is model_class.config_class), config)
    if architecture.kind == "causal" and hasattr(config, "is_decoder"):
        config.is_decoder = True  # as the classes for both kinds want it said
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        module: PreTrainedModel = model_class(config).eval()
        if getattr(config, "is_encoder_decoder", False) and module.generation_config is not None:
            module.generation_config.decoder_start_token_id = _IDS["decoder_start_token_id"]
        for parameter in module.parameters():
            if parameter.ndim > 1 and parameter.is_floating_point() and parameter.std() < _FRESH:
                # Freshly initialised weights hardly move the logits, and matrices of zeros not at all; these do.
                parameter.mul_(4) if bool(parameter.any()) else parameter.normal_(0, 4 * 0.02)
    return module


def small_config(config_class: type[PreTrainedConfig], helped: Mapping[str, Any]) -> PreTrainedConfig:
    """A configuration whose sizes are small; `helped` has the last word, and nests where sub-configurations do."""
    known = inspect.signature(config_class.__init__).parameters
    options: dict[str, Any] = {name: size for name, size in SMALL.items() if name in known}
    if "kv_lora_rank" in known:
        options["num_key_value_heads"] = options["num_attention_heads"]  # latent attention shares no heads
    parts = _part_classes(config_class)
    options |= {name: small_config(part, helped.get(name, {})) for name, part in parts.items()}
    options |= {name: value for name, value in helped.items() if name not in parts}
    return config_class(**{name: value for name, value in options.items() if value is not AS_IS})


def _part_classes(config_class: type[PreTrainedConfig]) -> dict[str, type[PreTrainedConfig]]:
    """The classes of a configuration's sub-configurations, as its own default has them."""
    found = {}
    for name, spec in (getattr(config_class, "sub_configs_defaults", None) or {}).items():
        found[name] = CONFIG_MAPPING[spec.model_type] if spec.config_class is AutoConfig else spec.config_class
    rest = [name for name in config_class.sub_configs or {} if name not in found]
    whole = config_class() if rest else None
    return found | {
        name: type(getattr(whole, name)) for name in rest if isinstance(getattr(whole, name, None), PreTrainedConfig)
    }


def toy_tokenizer() -> PreTrainedTokenizerFast:
    """One token a word: five special ones, then w5 to w99."""
    special = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
    words = [*special.values(), *(f"w{i}" for i in range(len(special), VOCABULARY))]
    backend = Tokenizer(WordLevel({word: index for index, word in enumerate(words)}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=backend, **{f"{k}_token": v for k, v in special.items()})
