"""What the recipe for toys cannot know of an architecture: attributes of its configuration, by model type.

`AS_IS` leaves an attribute as the configuration has it; a dictionary under a sub-configuration's name is for that one.
"""

from __future__ import annotations

from typing import Any

__all__ = ["AS_IS", "HELP"]

AS_IS: Any = ...

_HYBRID = ["linear_attention", "hybrid", "linear_attention", "hybrid"]
_SHARED: dict[str, Any] = {"hidden_size_per_layer_input": 0, "vocab_size_per_layer_input": 0}
_SWA: dict[str, Any] = {
    "num_key_value_heads": 4,
    "swa_num_attention_heads": 4,
    "swa_num_key_value_heads": 4,
    "swa_q_lora_rank": 8,
    "swa_kv_lora_rank": 8,
    "swa_head_dim": 16,
    "swa_qk_nope_head_dim": 8,
    "swa_v_head_dim": 8,
    "head_dim": 16,
    "shared_experts_intermediate_size": 24,
}
_TOKENIZER_OF_SOUND: dict[str, Any] = {"num_filters": 4, "depths": (1, 1), "downsampling_ratios": (2,)}
_NO_GROUPS: dict[str, Any] = {"num_key_value_heads": 4}
_BYTES: dict[str, Any] = {"cross_attn_k": 2, "hidden_size_global": 32, "intermediate_size": 48}

HELP: dict[str, dict[str, Any]] = {
    "bamba": {"mamba_n_heads": 8, "attn_layer_indices": [1, 3]},
    "blt": {
        "encoder_hash_byte_group_vocab": 50,
        "patcher_config": {"intermediate_size": 48},
        "encoder_config": _BYTES,
        "decoder_config": _BYTES,
    },
    "cohere_compass_text": {"rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 10000.0}}},
    "codegen": {"rotary_dim": 4},
    "cpmant": {"prompt_types": 4, "prompt_length": 4, "segment_types": 4, "dim_head": 8},
    "ctrl": {"dff": 48},
    "dbrx": {"attn_config": {"rope_theta": 10000.0, "kv_n_heads": 2, "clip_qkv": 8.0}},
    "distilbert": {"hidden_dim": 48},
    "dots3_note": {
        "text_config": _SWA,
        "vision_config": {"num_hidden_layers": AS_IS, "adapter_in_dim": 32},
        "audio_config": {"adapter_input_size": 32},
    },
    "dots3_note_text": _SWA,
    "encoder-decoder": {"decoder": {"is_decoder": True, "add_cross_attention": True}},
    "esmc": _NO_GROUPS,
    "falcon_h1": {"mamba_d_ssm": 64, "mamba_n_heads": 8},
    "fsmt": {"src_vocab_size": 100, "tgt_vocab_size": 100},
    "funnel": {"block_sizes": [2, 2], "num_decoder_layers": 2, "block_repeats": [1, 1]},
    "gemma3n_text": {"num_kv_shared_layers": 0, "altup_num_inputs": 2},
    "gemma4_assistant": {"text_config": _SHARED, "backbone_hidden_size": 32},
    "gemma4_unified_assistant": {"text_config": _SHARED, "backbone_hidden_size": 32},
    "gpt_neo": {"attention_types": [[["global", "local"], 2]]},
    "gptj": {"rotary_dim": 4},
    "granitemoehybrid": {"mamba_n_heads": 8},
    "granite_speech": {
        "encoder_config": {"hidden_dim": 32, "output_dim": 8, "input_dim": 16, "max_pos_emb": 16, "context_size": 8}
    },
    "granite_speech_plus": {
        "encoder_config": {"hidden_dim": 32, "output_dim": 8, "input_dim": 16, "max_pos_emb": 16, "context_size": 8}
    },
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1},
    "led": {"max_encoder_position_embeddings": 64, "max_decoder_position_embeddings": 64, "attention_window": 16},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * 2},
    "longcat_flash": {"head_dim": 8, "qk_head_dim": 16, "zero_expert_num": 2, "num_layers": 2},
    "kimi_linear": {"linear_num_heads": 4},
    "longformer": {"attention_window": 4},
    "luke": {"entity_vocab_size": 10, "entity_emb_size": 16},
    "mamba2": {"num_heads": 8, "n_groups": 2},
    "mobilebert": {"intra_bottleneck_size": 32, "true_hidden_size": 32, "num_feedforward_networks": 2},
    "nemotron_h": {
        "mamba_num_heads": 8,
        "n_groups": 2,
        "layers_block_type": ["linear_attention", "moe", "full_attention", "mlp"],
    },
    "nemo_speechlm": {
        "audio_config": {"diarization_config": {"head_config": {"audio_hidden_size": 32}}},
        "word_timestamp_config": {"blank_token_id": 99},
    },
    "neomme": {"embedding_rank": 16, "head_dim": 16},
    "perceiver": {
        "num_latents": 8,
        "d_latents": 32,
        "num_blocks": 1,
        "num_self_attends_per_block": 4,
        "num_self_attention_heads": 4,
        "num_cross_attention_heads": 4,
        "qk_channels": 32,
        "v_channels": 32,
    },
    "qwen4_exp_text": {
        "indexer_n_heads": 2,
        "indexer_kv_heads": 1,
        "indexer_head_dim": 8,
        "indexer_budget": 16,
        "indexer_compress_ratio": 4,
        "ngram_vocab_size_base": 100,
        "split_ngram_parts": 2,
    },
    "reformer": {
        "axial_pos_embds_dim": (16, 16),
        "axial_pos_shape": (8, 8),
        "attn_layers": ["local", "lsh", "local", "lsh"],
        "attention_head_size": 8,
        "feed_forward_size": 48,
        "is_decoder": True,
        "num_buckets": 4,
        "local_attn_chunk_length": 8,
        "lsh_attn_chunk_length": 8,
    },
    "roc_bert": {
        "pronunciation_vocab_size": 20,
        "shape_vocab_size": 20,
        "pronunciation_embed_dim": 8,
        "shape_embed_dim": 8,
    },
    "vibevoice_asr": {
        "acoustic_tokenizer_encoder_config": _TOKENIZER_OF_SOUND,
        "semantic_tokenizer_encoder_config": _TOKENIZER_OF_SOUND,
    },
    "xmod": {"languages": ["en_XX"], "default_language": "en_XX"},
    "zamba": {
        "layers_block_type": _HYBRID,
        "attention_hidden_size": 64,
        "attention_head_dim": 16,
        "num_key_value_heads": 4,
    },
    "zamba2": {"layers_block_type": _HYBRID, "num_key_value_heads": 4, "chunk_size": 8},
    "zaya": {"num_experts_per_tok": 1, "router_hidden_size": 8},
}
HELP["qwen4_exp"] = {"text_config": HELP["qwen4_exp_text"]}
HELP["masked:reformer"] = {**HELP["reformer"], "is_decoder": False}
