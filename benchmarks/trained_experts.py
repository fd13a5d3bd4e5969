"""Toy mixtures of experts that know a few facts: transformers' own classes, trained in seconds.

Random weights know nothing, so that no neuron of theirs expresses a fact. These were shown 24 facts in three wordings
each, and prefer the right answer on all of them.
"""

from __future__ import annotations

from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers.models import WordLevel
from torch.nn import functional
from transformers import CONFIG_MAPPING, PreTrainedTokenizerFast

import neuronatlas as na
from neuronatlas.studies.sweep.toys import VOCABULARY, small_config

STYLES = {
    "mixtral": "MixtralForCausalLM",
    "qwen2_moe": "Qwen2MoeForCausalLM",
    "deepseek_v3": "DeepseekV3ForCausalLM",
    "gpt_oss": "GptOssForCausalLM",
}
"""transformers' class of each style: gates in halves; a shared expert that runs first and is gated; one that runs last,
above a first layer without experts; biases, transposed weights and interleaved gates."""

N_LAYERS = 3
_RATE = 4e-3
_ENOUGH = 0.1
"""Training ends when the mean of -log P(answer) is below this: at about P = 0.9, where a change of P still shows."""
_SPECIAL = {"pad": "[PAD]", "unk": "[UNK]", "bos": "[BOS]", "eos": "[EOS]", "mask": "[MASK]"}
_WORLD = """
Austria Vienna German
Brazil Brasilia Portuguese
Cuba Havana Spanish
Egypt Cairo Arabic
France Paris French
Greece Athens Greek
Iran Tehran Persian
Italy Rome Italian
Japan Tokyo Japanese
Norway Oslo Norwegian
Poland Warsaw Polish
Turkey Ankara Turkish
"""
_WORDINGS = {
    "capital": ("the capital of {} is [MASK]", "{} has its capital in [MASK]", "government of {} sits in [MASK]"),
    "language": ("the language of {} is [MASK]", "people of {} all speak [MASK]", "in {} they all speak [MASK]"),
}


def world() -> list[na.Fact]:
    """The facts: the capital and the language of twelve countries, in three wordings of six words each.

    >>> facts = world()
    >>> len(facts), facts[0].answer, facts[0].prompts[0]
    (24, 'Vienna', 'the capital of Austria is [MASK]')
    """
    rows = [line.split() for line in _WORLD.split("\n") if line]
    return [
        na.Fact(relation, row[0], row[column], [wording.format(row[0]) for wording in wordings])
        for column, (relation, wordings) in enumerate(_WORDINGS.items(), start=1)
        for row in rows
    ]


def tokenizer() -> PreTrainedTokenizerFast:
    """A token for every word of the facts."""
    said = {word for fact in world() for prompt in fact.prompts for word in [*prompt.split(), fact.answer]}
    words = [*_SPECIAL.values(), *sorted(said - set(_SPECIAL.values()))]
    backend = Tokenizer(WordLevel({word: index for index, word in enumerate(words)}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    names = {f"{name}_token": text for name, text in _SPECIAL.items()}
    return PreTrainedTokenizerFast(tokenizer_object=backend, **names)


def trained(style: str) -> na.Model:
    """A mixture of experts of one style that was trained on the facts; the same one every time."""
    words = tokenizer()
    config: Any = small_config(CONFIG_MAPPING[style], {"num_hidden_layers": N_LAYERS, "pad_token_id": 0})
    assert len(words) <= VOCABULARY
    texts = [prompt.replace("[MASK]", fact.answer) for fact in world() for prompt in fact.prompts]
    ids = torch.tensor([words.convert_tokens_to_ids(text.split()) for text in texts])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module: Any = getattr(transformers, STYLES[style])(config).train()
        optimiser = torch.optim.Adam(module.parameters(), lr=_RATE)
        loss = torch.inf
        while loss > _ENOUGH:
            optimiser.zero_grad()
            wrong = functional.cross_entropy(module(input_ids=ids[:, :-1]).logits[:, -1], ids[:, -1])
            wrong.backward()
            optimiser.step()
            loss = float(wrong.detach())
    return na.load((module.eval(), words))
