"""Toy models of many architectures: random weights, a tiny tokenizer, and where their neurons are known to be."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
import transformers
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers.models import WordLevel
from transformers import PreTrainedModel, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from neuronatlas.models import Model, load

_IDS = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
_USUAL = {"num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 48, "max_position_embeddings": 64}
_SMALL = {"vocab_size": 100, "hidden_size": 32, **_USUAL, **_IDS}
_GPT = {"vocab_size": 100, "n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 64, **_IDS}
_LLAMA = "model.layers.{}.mlp.down_proj", "model.layers.{}.self_attn.o_proj"


@dataclass(frozen=True)
class Toy:
    """An architecture in small, and what its source says: the paths of its projections and their widths.

    `post_norm`: transformers' last hidden state is the last block's output. `table`: positions are looked up in a table
    of learned embeddings, so a longer prompt cannot run. `replays`: blocks can be run on other rows than were recorded.
    """

    model: str
    config: str
    options: dict[str, Any]
    ffn_path: str
    attention_path: str
    ffn: int = 48
    attention: int = 32
    layers: int = 3
    post_norm: bool = False
    table: bool = False
    replays: bool = True
    hidden: int = field(default=32, init=False)


def _bert_like(model: str, config: str, root: str, table: bool = True, **options: Any) -> Toy:
    paths = f"{root}.encoder.layer.{{}}.output.dense", f"{root}.encoder.layer.{{}}.attention.output.dense"
    return Toy(model, config, {**_SMALL, **options}, *paths, post_norm=True, table=table)


def _llama_like(model: str, config: str, attention: int = 32, **options: Any) -> Toy:
    return Toy(model, config, {**_SMALL, "num_key_value_heads": 2, **options}, *_LLAMA, attention=attention)


TOYS = {
    "bert": _bert_like("BertForMaskedLM", "BertConfig", "bert"),
    "roberta": _bert_like("RobertaForMaskedLM", "RobertaConfig", "roberta"),
    "xlm-roberta": _bert_like("XLMRobertaForMaskedLM", "XLMRobertaConfig", "roberta"),
    "electra": _bert_like("ElectraForMaskedLM", "ElectraConfig", "electra", embedding_size=16),
    "deberta-v2": _bert_like("DebertaV2ForMaskedLM", "DebertaV2Config", "deberta"),
    "deberta-v3": _bert_like(
        "DebertaV2ForMaskedLM",
        "DebertaV2Config",
        "deberta",
        table=False,
        relative_attention=True,
        pos_att_type=["p2c", "c2p"],
        position_biased_input=False,
        position_buckets=8,
        norm_rel_ebd="layer_norm",
        share_att_key=True,
    ),
    "distilbert": Toy(
        "DistilBertForMaskedLM",
        "DistilBertConfig",
        {"vocab_size": 100, "dim": 32, "n_layers": 3, "n_heads": 4, "hidden_dim": 48, "max_position_embeddings": 64},
        "distilbert.transformer.layer.{}.ffn.lin2",
        "distilbert.transformer.layer.{}.attention.out_lin",
        post_norm=True,
        table=True,
    ),
    "albert": Toy(
        "AlbertForMaskedLM",
        "AlbertConfig",
        {**_SMALL, "embedding_size": 16},
        "albert.encoder.albert_layer_groups.0.albert_layers.0.ffn_output",
        "albert.encoder.albert_layer_groups.0.albert_layers.0.attention.dense",
        post_norm=True,
        table=True,
    ),
    "modernbert": Toy(
        "ModernBertForMaskedLM",
        "ModernBertConfig",
        {**_SMALL, "cls_token_id": 2, "sep_token_id": 3, "local_attention": 6, "global_attn_every_n_layers": 2},
        "model.layers.{}.mlp.Wo",
        "model.layers.{}.attn.Wo",
    ),
    "gpt2": Toy(
        "GPT2LMHeadModel",
        "GPT2Config",
        _GPT,
        "transformer.h.{}.mlp.c_proj",
        "transformer.h.{}.attn.c_proj",
        ffn=128,
        table=True,
    ),
    "gpt-neo": Toy(
        "GPTNeoForCausalLM",
        "GPTNeoConfig",
        {
            "vocab_size": 100,
            "hidden_size": 32,
            "num_layers": 2,
            "num_heads": 4,
            "attention_types": [[["global", "local"], 1]],
            "window_size": 16,
            "intermediate_size": 48,
            "max_position_embeddings": 64,
            **_IDS,
        },
        "transformer.h.{}.mlp.c_proj",
        "transformer.h.{}.attn.attention.out_proj",
        layers=2,
        table=True,
    ),
    "gpt-j": Toy(
        "GPTJForCausalLM",
        "GPTJConfig",
        {**_GPT, "rotary_dim": 4},
        "transformer.h.{}.mlp.fc_out",
        "transformer.h.{}.attn.out_proj",
        ffn=128,
    ),
    "gpt-neox": Toy(
        "GPTNeoXForCausalLM",
        "GPTNeoXConfig",
        _SMALL,
        "gpt_neox.layers.{}.mlp.dense_4h_to_h",
        "gpt_neox.layers.{}.attention.dense",
    ),
    "bloom": Toy(
        "BloomForCausalLM",
        "BloomConfig",
        {"vocab_size": 100, "hidden_size": 32, "n_layer": 3, "n_head": 4, **_IDS},
        "transformer.h.{}.mlp.dense_4h_to_h",
        "transformer.h.{}.self_attention.dense",
        ffn=128,
        replays=False,
    ),
    "opt": Toy(
        "OPTForCausalLM",
        "OPTConfig",
        {**_SMALL, "ffn_dim": 48, "word_embed_proj_dim": 32},
        "model.decoder.layers.{}.fc2",
        "model.decoder.layers.{}.self_attn.out_proj",
        table=True,
    ),
    "llama": _llama_like("LlamaForCausalLM", "LlamaConfig"),
    "mistral": _llama_like("MistralForCausalLM", "MistralConfig", sliding_window=8),
    "qwen2": _llama_like("Qwen2ForCausalLM", "Qwen2Config"),
    "qwen3": _llama_like("Qwen3ForCausalLM", "Qwen3Config", attention=64, head_dim=16),
    "gemma": _llama_like("GemmaForCausalLM", "GemmaConfig", attention=48, num_key_value_heads=1, head_dim=12),
    "gemma2": _llama_like("Gemma2ForCausalLM", "Gemma2Config", attention=48, head_dim=12, sliding_window=8),
    "gemma3": _llama_like("Gemma3ForCausalLM", "Gemma3TextConfig", attention=48, head_dim=12, sliding_window=8),
    "phi3": _llama_like("Phi3ForCausalLM", "Phi3Config"),
    "phi": Toy("PhiForCausalLM", "PhiConfig", _SMALL, "model.layers.{}.mlp.fc2", "model.layers.{}.self_attn.dense"),
}

_TABLES = [name for name, toy in TOYS.items() if toy.table]
_CAUSAL = [name for name, toy in TOYS.items() if "Masked" not in toy.model]


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerBase:
    """One token a word: five special ones, then w0 to w94."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{i}" for i in range(95))]
    backend = Tokenizer(WordLevel({word: index for index, word in enumerate(words)}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    special = {"pad": "[PAD]", "unk": "[UNK]", "mask": "[MASK]", "cls": "[CLS]", "sep": "[SEP]"}
    return PreTrainedTokenizerFast(tokenizer_object=backend, **{f"{k}_token": v for k, v in special.items()})


def _module(name: str, **changes: Any) -> PreTrainedModel:
    toy = TOYS[name]
    config = getattr(transformers, toy.config)(**{**toy.options, **changes})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module: PreTrainedModel = getattr(transformers, toy.model)(config).eval()
    with torch.no_grad():
        for parameter in module.parameters():
            # Freshly initialised weights hardly move the logits; these do.
            parameter.mul_(4 if parameter.ndim > 1 else 1)
    return module


@pytest.fixture(scope="session")
def module_of() -> Callable[..., PreTrainedModel]:
    """A fresh module by its toy's name; keyword arguments change the configuration."""
    return _module


@pytest.fixture(scope="session")
def model_of(tokenizer: PreTrainedTokenizerBase) -> Callable[[str], Model]:
    """The loaded model by its toy's name, the same one for all tests: leave it as it was."""
    loaded: dict[str, Model] = {}

    def get(name: str) -> Model:
        if name not in loaded:
            loaded[name] = load((_module(name), tokenizer))
        return loaded[name]

    return get


@pytest.fixture(params=sorted(TOYS))
def architecture(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=sorted(_CAUSAL))
def causal_architecture(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=sorted(_TABLES))
def architecture_with_position_table(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def toy(architecture: str) -> Toy:
    return TOYS[architecture]


@pytest.fixture
def model(architecture: str, model_of: Callable[[str], Model]) -> Model:
    return model_of(architecture)


@pytest.fixture(scope="session")
def toys() -> dict[str, Toy]:
    return TOYS


def _fingerprint(model: Model) -> object:
    """All that an intervention or an attribution could leave behind."""
    weights = {name: tensor.detach().numpy().tobytes() for name, tensor in model.module.state_dict().items()}
    flags = [(name, p.requires_grad, p.grad is None) for name, p in model.module.named_parameters()]
    hooks = [(len(m._forward_hooks), len(m._forward_pre_hooks), m.training) for m in model.module.modules()]
    patched = [name for name, m in model.module.named_modules() if "forward" in m.__dict__]
    return weights, flags, hooks, patched, list(model.intervened_sites)


@pytest.fixture
def fingerprint() -> Callable[[Model], object]:
    return _fingerprint


@pytest.fixture
def ids() -> torch.Tensor:
    """Three prompts of thirteen tokens, longer than the toys' sliding windows."""
    return torch.randint(5, 100, (3, 13), generator=torch.Generator().manual_seed(1))
