import json
import math
from collections.abc import Callable

import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, pre_tokenizers, processors
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from neuronatlas.models import Model, load
from neuronatlas.models.answers import log_odds, read_answers
from neuronatlas.models.queries import Query, QueryError, by_length, place_tokens, query

ModuleOf = Callable[..., PreTrainedModel]

SENTENCES = [
    "The capital of France is Paris.",
    "Paris is the capital of France.",
    "A woman from Oman speaks Arabic in Paris.",
]
WORD_PIECES = "the capital of france is paris vi ##enna in . a woman from oman speaks arabic"


def byte_level(special: list[AddedToken]) -> Tokenizer:
    """Byte-level BPE in which every word of the sentences is one token, with its space."""
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trained = Tokenizer(BPE())
    trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    names = [token.content for token in special]
    trained.train_from_iterator(
        SENTENCES * 3,
        BpeTrainer(vocab_size=400, special_tokens=names, initial_alphabet=alphabet, show_progress=False),
    )
    learned = json.loads(trained.to_str())["model"]
    # The trainer's own special tokens know nothing of the space before a mask.
    backend = Tokenizer(BPE(learned["vocab"], [tuple(pair) for pair in learned["merges"]]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.add_special_tokens(special)
    return backend


def roberta_tokenizer(mask_takes_the_space: bool) -> PreTrainedTokenizerFast:
    special = [AddedToken(name, special=True, normalized=False) for name in ("<s>", "<pad>", "</s>", "<unk>")]
    special.append(AddedToken("<mask>", lstrip=mask_takes_the_space, special=True, normalized=False))
    backend = byte_level(special)
    backend.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    names = {"bos": "<s>", "cls": "<s>", "eos": "</s>", "sep": "</s>", "pad": "<pad>", "unk": "<unk>", "mask": "<mask>"}
    return PreTrainedTokenizerFast(tokenizer_object=backend, **{f"{key}_token": name for key, name in names.items()})


@pytest.fixture(scope="module")
def bert(module_of: ModuleOf) -> Model:
    """A masked model with word pieces."""
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORD_PIECES.split()]
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    return load((module_of("bert"), transformers.BertTokenizer(vocab=vocabulary, do_lower_case=True)))


@pytest.fixture(scope="module")
def roberta(module_of: ModuleOf) -> Model:
    """A masked model whose words carry the space before them, and so does its mask."""
    return load((module_of("roberta", vocab_size=400), roberta_tokenizer(mask_takes_the_space=True)))


@pytest.fixture(scope="module")
def gpt(module_of: ModuleOf) -> Model:
    """A causal model whose words carry the space before them."""
    backend = byte_level([AddedToken("<|endoftext|>", special=True, normalized=False)])
    names = dict.fromkeys(["bos_token", "eos_token", "unk_token"], "<|endoftext|>")
    return load((module_of("gpt2", vocab_size=400), PreTrainedTokenizerFast(tokenizer_object=backend, **names)))


@pytest.fixture(scope="module")
def closing_gpt(module_of: ModuleOf, gpt: Model) -> Model:
    """A causal model whose tokenizer puts a token before and one after every text."""
    backend = byte_level([AddedToken(name, special=True, normalized=False) for name in ("<s>", "</s>")])
    backend.post_processor = processors.RobertaProcessing(("</s>", 1), ("<s>", 0))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>")
    return load((module_of("gpt2", vocab_size=400), tokenizer))


def tokens(model: Model, asked: Query) -> tuple[list[str], str, str]:
    """The prompt's tokens, the answer's token, and the token at the place where neurons are looked at."""
    prompt = [str(token) for token in model.tokenizer.convert_ids_to_tokens(list(asked.first.ids))]
    return prompt, model.tokenizer.convert_ids_to_tokens([asked.first.answer_id])[0], prompt[asked.first.position]


# Encoding for masked models.


def test_a_masked_prompt_has_the_mask_at_the_answers_place(bert: Model) -> None:
    asked = query(bert, "The capital of France is ", ".", "Paris")
    prompt = ["[CLS]", "the", "capital", "of", "france", "is", "[MASK]", ".", "[SEP]"]
    assert tokens(bert, asked) == (prompt, "paris", "[MASK]")
    assert asked.first.answer_position == asked.first.position == 6
    assert asked.text == "The capital of France is […]."
    assert asked.answer == "Paris"


@pytest.mark.parametrize(
    ("left", "right", "prompt", "answer"),
    [
        (
            "The capital of France is ",
            ".",
            ["<s>", "The", "Ġcapital", "Ġof", "ĠFrance", "Ġis", "MASK", ".", "</s>"],
            "ĠParis",
        ),
        (
            "",
            " is the capital of France.",
            ["<s>", "MASK", "Ġis", "Ġthe", "Ġcapital", "Ġof", "ĠFrance", ".", "</s>"],
            "Paris",
        ),
        (
            "A woman in ",
            " speaks Arabic.",
            ["<s>", "A", "Ġwoman", "Ġin", "MASK", "Ġspeaks", "ĠArabic", ".", "</s>"],
            "ĠParis",
        ),
    ],
    ids=["at the end", "at the start", "in the middle"],
)
def test_the_answers_space_is_that_of_its_place(
    left: str, right: str, prompt: list[str], answer: str, roberta: Model
) -> None:
    asked = query(roberta, left, right, "Paris")
    prompt = ["<mask>" if token == "MASK" else token for token in prompt]
    found = [token.strip() for token in roberta.tokenizer.convert_ids_to_tokens(list(asked.first.ids))]
    assert found == prompt
    assert asked.first.ids[asked.first.answer_position] == roberta.tokenizer.mask_token_id
    assert tokens(roberta, asked)[1] == answer


def test_a_mask_that_does_not_take_the_space_before_it_asks_for_the_same_answer(
    module_of: ModuleOf, roberta: Model
) -> None:
    model = load((module_of("roberta", vocab_size=400), roberta_tokenizer(mask_takes_the_space=False)))
    asked = query(model, "The capital of France is ", ".", "Paris")
    assert asked == query(roberta, "The capital of France is ", ".", "Paris")


def test_the_answers_case_and_outer_spaces_do_not_matter_where_the_model_knows_none(bert: Model) -> None:
    assert query(bert, "A ", ".", " PARIS ").first.answer_id == query(bert, "A ", ".", "paris").first.answer_id


# Encoding for causal models.


@pytest.mark.parametrize("right", ["", ".", " .", "?", "”.", ' ."', ")", "!\n"])
def test_punctuation_after_the_place_is_dropped_for_a_causal_model(right: str, gpt: Model) -> None:
    asked = query(gpt, "The capital of France is ", right, "Paris")
    assert tokens(gpt, asked) == (["The", "Ġcapital", "Ġof", "ĠFrance", "Ġis"], "ĠParis", "Ġis")
    assert asked.first.answer_position == asked.first.position == 4


@pytest.mark.parametrize("right", [" in Europe.", ", of course.", ". Paris"])
def test_text_after_the_place_is_refused_for_a_causal_model(right: str, gpt: Model) -> None:
    with pytest.raises(QueryError, match="a causal model needs the place at the end"):
        query(gpt, "The capital of France is ", right, "Paris")


def test_a_place_at_the_start_is_refused_for_a_causal_model(gpt: Model) -> None:
    with pytest.raises(QueryError, match="nothing stands before the answer's place"):
        query(gpt, "", ".", "Paris")


def test_an_answer_glued_to_the_prompt_has_no_space(gpt: Model) -> None:
    assert tokens(gpt, query(gpt, "The capital of France is", "", "Paris"))[1] == "Paris"


def test_a_closing_token_is_left_out_of_a_causal_prompt(closing_gpt: Model) -> None:
    asked = query(closing_gpt, "The capital of France is ", ".", "Paris")
    assert tokens(closing_gpt, asked) == (["<s>", "The", "Ġcapital", "Ġof", "ĠFrance", "Ġis"], "ĠParis", "Ġis")


# What does not suit a model is refused with the reason.


@pytest.mark.parametrize("answer", ["", "  ", "\n"])
def test_an_empty_answer_is_refused(answer: str, bert: Model, gpt: Model) -> None:
    for model in (bert, gpt):
        with pytest.raises(QueryError, match=r'the answer to "A woman in \[…\]\." is empty'):
            query(model, "A woman in ", ".", answer)


def test_a_masked_answer_of_several_tokens_has_as_many_masks_filled_from_left_to_right(bert: Model) -> None:
    asked = query(bert, "The capital is ", ".", "Vienna")
    shown = [" ".join(bert.tokenizer.convert_ids_to_tokens(list(step.ids))) for step in asked.steps]
    assert shown == ["[CLS] the capital is [MASK] [MASK] . [SEP]", "[CLS] the capital is vi [MASK] . [SEP]"]
    assert bert.tokenizer.convert_ids_to_tokens([step.answer_id for step in asked.steps]) == ["vi", "##enna"]
    assert [(step.answer_position, step.position) for step in asked.steps] == [(4, 4), (5, 5)]
    assert asked.unit == "log P"


def test_a_causal_answer_of_several_tokens_is_asked_along_itself(gpt: Model) -> None:
    asked = query(gpt, "The capital is ", ".", "Paris speaks")
    shown = [gpt.tokenizer.convert_ids_to_tokens(list(step.ids)) for step in asked.steps]
    assert shown == [["The", "Ġcapital", "Ġis"], ["The", "Ġcapital", "Ġis", "ĠParis"]]
    assert [(step.answer_position, step.position) for step in asked.steps] == [(2, 2), (3, 3)]


def test_other_positions_stay_where_they_are_for_every_token_of_the_answer(bert: Model, gpt: Model) -> None:
    before = query(bert, "France is in ", " capital.", "Vienna", position="subject", subject="France")
    assert [step.position for step in before.steps] == [1, 1]
    # Behind the answer's place the subject moves by the masks that are added.
    behind = query(bert, "", " is in France.", "Vienna", position="subject", subject="France")
    france = bert.tokenizer.convert_tokens_to_ids("france")
    assert [step.ids[step.position] for step in behind.steps] == [france, france]
    assert [step.position for step in query(gpt, "The capital is ", "", "Paris speaks", position=1).steps] == [1, 1]
    assert query(bert, "The capital is ", ".", "Vienna", position=-1).first.position == 7


def test_an_answer_that_the_model_does_not_know_is_refused(bert: Model) -> None:
    with pytest.raises(QueryError, match="'Zanzibar' is not in this model's vocabulary"):
        query(bert, "The capital is ", ".", "Zanzibar")


def test_an_answer_that_melts_into_the_next_word_is_refused(gpt: Model, roberta: Model) -> None:
    with pytest.raises(QueryError, match="melts into the words beside it"):
        query(roberta, "A woman spe", "s Arabic.", "ak")
    with pytest.raises(QueryError, match="melts into the words before it"):
        query(gpt, "The capit", "", "al")


def test_a_prompt_with_two_masks_is_refused(bert: Model) -> None:
    with pytest.raises(QueryError, match=r"2 mask tokens in .*, 1 expected"):
        query(bert, "The capital [MASK] of ", ".", "Paris")


def test_a_masked_model_without_a_mask_token_is_refused(module_of: ModuleOf, gpt: Model) -> None:
    model = load((module_of("bert", vocab_size=400), gpt.tokenizer))
    with pytest.raises(QueryError, match="no mask token"):
        query(model, "The capital is ", ".", "Paris")


def test_a_prompt_as_long_as_the_model_is_taken_and_a_longer_one_refused(bert: Model, gpt: Model) -> None:
    assert len(query(bert, "the " * 60, ".", "Paris").first.ids) == 64
    with pytest.raises(QueryError, match="has 65 tokens, this model takes 64"):
        query(bert, "the " * 61, ".", "Paris")
    assert len(query(gpt, " capital" * 64 + " ", ".", "Paris").first.ids) == 64
    with pytest.raises(QueryError, match="has 65 tokens, this model takes 64"):
        query(gpt, " capital" * 65 + " ", ".", "Paris")


# Where neurons are looked at.


@pytest.mark.parametrize(
    ("position", "token"), [(0, "[CLS]"), (4, "france"), (-1, "[SEP]"), (-9, "[CLS]"), (8, "[SEP]")]
)
def test_a_position_may_be_any_token_of_the_prompt(position: int, token: str, bert: Model) -> None:
    asked = query(bert, "The capital of France is ", ".", "Paris", position=position)
    assert tokens(bert, asked)[2] == token
    assert asked.first.answer_position == 6


@pytest.mark.parametrize("position", [9, -10, 1000])
def test_a_position_outside_the_prompt_is_refused(position: int, bert: Model) -> None:
    with pytest.raises(QueryError, match=f"position {position} is outside the prompt of 9 tokens"):
        query(bert, "The capital of France is ", ".", "Paris", position=position)


def test_a_position_by_an_unknown_name_is_refused(bert: Model) -> None:
    with pytest.raises(QueryError, match="no position 'middle': expected 'answer', 'subject' or a token index"):
        query(bert, "The capital of France is ", ".", "Paris", position="middle")


@pytest.mark.parametrize(
    ("left", "right", "subject", "token"),
    [
        ("The capital of France is ", ".", "France", "france"),
        ("The capital of France is ", ".", "capital of France", "france"),
        ("", " is the capital of France.", "France", "france"),
        ("Vienna is in ", ".", "Vienna", "##enna"),
        ("THE CAPITAL OF FRANCE IS ", ".", "France", "france"),
    ],
)
def test_the_subjects_position_is_its_last_token(left: str, right: str, subject: str, token: str, bert: Model) -> None:
    asked = query(bert, left, right, "Paris", position="subject", subject=subject)
    assert tokens(bert, asked)[2] == token
    assert asked.first.ids[asked.first.answer_position] == bert.tokenizer.mask_token_id


def test_the_subjects_position_is_found_in_byte_level_prompts(gpt: Model, roberta: Model) -> None:
    for model in (gpt, roberta):
        asked = query(model, "The capital of France is ", ".", "Paris", position="subject", subject="France")
        assert tokens(model, asked)[2] == "ĠFrance"


def test_a_subject_is_a_word_of_its_own_and_no_part_of_another(bert: Model, gpt: Model) -> None:
    for model in (bert, gpt):
        asked = query(model, "A woman from Oman speaks ", ".", "Arabic", position="subject", subject="Oman")
        assert tokens(model, asked)[2].strip("Ġ").lower() == "oman"


def test_a_subject_that_the_prompt_does_not_name_is_refused(bert: Model) -> None:
    with pytest.raises(QueryError, match="subject 'Spain' is not in the prompt"):
        query(bert, "The capital of France is ", ".", "Paris", position="subject", subject="Spain")
    for nothing in (None, "", " "):
        with pytest.raises(QueryError, match="subject"):
            query(bert, "The capital of France is ", ".", "Paris", position="subject", subject=nothing)


def test_the_spellings_of_the_place_are_the_common_ones_and_the_models_own(
    bert: Model, roberta: Model, gpt: Model
) -> None:
    assert place_tokens(bert) == place_tokens(gpt) == ("[MASK]", "{answer}")
    assert place_tokens(roberta) == ("[MASK]", "{answer}", "<mask>")


# Batches.


@given(st.lists(st.integers(1, 30), max_size=60), st.integers(1, 100))
def test_batches_hold_every_item_once_in_equal_lengths_within_the_budget(lengths: list[int], budget: int) -> None:
    batches = by_length(lengths, budget)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len({lengths[index] for index in batch}) == 1
        assert len(batch) == 1 or sum(lengths[index] for index in batch) <= budget
        assert batch == sorted(batch)
    assert batches == by_length(lengths, budget)


@given(st.lists(st.integers(1, 9), max_size=40), st.integers(1, 50))
def test_batches_are_no_more_than_needed(lengths: list[int], budget: int) -> None:
    for length in set(lengths):
        batches = [batch for batch in by_length(lengths, budget) if lengths[batch[0]] == length]
        assert len(batches) == -(-lengths.count(length) // max(1, budget // length))


# P(answer) and its log-odds.


def test_log_odds_are_those_of_the_softmax() -> None:
    logits = torch.randn(5, 11, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    answers = [0, 3, 10, 5, 5]
    right = logits.softmax(1)[torch.arange(5), answers]
    probability, odds = log_odds(logits, answers)
    torch.testing.assert_close(probability, right, rtol=1e-12, atol=0)
    torch.testing.assert_close(odds, (right / (1 - right)).log(), rtol=1e-12, atol=1e-12)


def test_log_odds_keep_both_ends_of_the_scale() -> None:
    probability, odds = log_odds(torch.tensor([[200.0, 0.0], [-200.0, 0.0]]), [0, 0])
    assert odds.tolist() == [200.0, -200.0]
    assert probability[0] == 1
    assert 0 < probability[1] < 1e-80


def test_answers_are_read_with_the_token_that_the_model_prefers(bert: Model) -> None:
    asked = [query(bert, "The capital of France is ", ".", answer) for answer in ("Paris", "France")]
    logits = torch.zeros(2, 100)
    logits[:, asked[0].first.answer_id] = 3.0
    first, second = read_answers(bert, [one.first for one in asked], logits)
    assert (first.top_token, first.is_top) == ("paris", True)
    assert (second.top_token, second.is_top) == ("paris", False)
    chosen, others = math.exp(3), 99
    assert first.probability == pytest.approx(chosen / (chosen + others))
    assert second.probability == pytest.approx(1 / (chosen + others))
    assert first.log_odds == pytest.approx(math.log(chosen / others))


def test_a_row_of_a_padded_vocabulary_is_named_by_its_id(bert: Model) -> None:
    logits = torch.zeros(1, 5001)
    logits[0, 5000] = 1.0
    asked = query(bert, "The capital of France is ", ".", "Paris")
    assert read_answers(bert, [asked.first], logits)[0].top_token == "[5000]"
