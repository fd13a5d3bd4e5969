"""What a child is trained on: the parts, the control's labels, and the tokens that its classifier reads."""

from collections import Counter

import numpy as np
import pytest
import torch

import neuronatlas as na
from neuronatlas.probing.examples import ExamplesError
from neuronatlas.studies.children.classifier import Classifier, batch_of, classifier_of
from neuronatlas.studies.children.settings import ChildError, ChildSettings
from neuronatlas.studies.children.task import PARTS, Task, task_of


@pytest.fixture(scope="module", params=["masked", "causal"])
def base(request: pytest.FixtureRequest) -> na.Model:
    return na.load(na.specimen_folder(request.param))


@pytest.fixture(scope="module")
def words() -> na.Corpus:
    return na.corpus_of_specimen("number", n_sentences=60)


@pytest.fixture(scope="module")
def sentences(words: na.Corpus) -> na.Corpus:
    """The same texts, each labelled as a whole: whether it has a plural."""
    marked = (
        na.Sentence(s.text, s.words, s.spans, ("some" if "Plur" in s.labels else "none",), s.source)
        for s in words.sentences
    )
    return na.Corpus(tuple(marked), label="plural", level="sentence", name="plurals")


def task(corpus: na.Corpus, base: na.Model, **changes: object) -> Task:
    return task_of(corpus, base.tokenizer, base.max_length, ChildSettings(**changes))  # type: ignore[arg-type]


def test_every_labelled_item_is_in_one_part_and_no_sentence_in_two(base: na.Model, words: na.Corpus) -> None:
    found = task(words, base)
    assert sum(len(found.targets(part)) for part in PARTS) == sum(words.counts().values())
    own = [{row.sentence for row in found.rows[part]} for part in PARTS]
    assert not (own[0] & own[1]) | (own[0] & own[2]) | (own[1] & own[2])


def test_targets_are_the_labels_of_the_words_that_the_tokens_are_of(base: na.Model, words: na.Corpus) -> None:
    found = task(words, base)
    for row in found.rows["train"][:20]:
        labels = [label for label in words.sentences[row.sentence].labels if label is not None]
        assert [found.classes[target] for target in row.targets] == labels
        assert len(row.positions) == row.counts.sum() == len(labels)


def test_shuffled_labels_keep_every_class_as_frequent_and_leave_dev_and_test_alone(
    base: na.Model, words: na.Corpus
) -> None:
    found = task(words, base)
    control = found.shuffled(seed=0)
    assert Counter(control.targets("train").tolist()) == Counter(found.targets("train").tolist())
    assert (control.targets("train") != found.targets("train")).mean() > 0.2
    for part in ("dev", "test"):
        assert np.array_equal(control.targets(part), found.targets(part))
    assert np.array_equal(control.targets("train"), found.shuffled(seed=0).targets("train"))
    assert not np.array_equal(control.targets("train"), found.shuffled(seed=1).targets("train"))


def pooled(classifier: Classifier, row_batch: dict[str, torch.Tensor]) -> np.ndarray:
    """What the classifier reads: its logits with the identity as its weights."""
    width = classifier.head.in_features
    head = torch.nn.Linear(width, width)
    with torch.no_grad():
        head.weight.copy_(torch.eye(width))
        head.bias.zero_()
        classifier.head = head
        given = {**row_batch, "labels": torch.zeros_like(row_batch["labels"])}
        return np.asarray(classifier(**given)["logits"])


@pytest.mark.parametrize("level", ["word", "sentence"])
@pytest.mark.parametrize("pooling", [None, "first", "last", "mean"])
def test_the_classifier_reads_what_extract_gives_at_the_top_layer(
    level: str, pooling: str | None, words: na.Corpus, sentences: na.Corpus
) -> None:
    masked = na.load(na.specimen_folder())  # whose last block is followed by no other norm
    corpus = words if level == "word" else sentences
    rows = task(corpus, masked, pooling=pooling).rows["train"][:12]
    read = pooled(classifier_of(masked, 2, seed=0), batch_of(rows, masked.tokenizer.pad_token_id))
    text = corpus.take([row.sentence for row in rows])
    acts = na.extract(masked, text, "hidden", layers=[4], pooling=pooling, progress=False)  # type: ignore[arg-type]
    labelled = np.flatnonzero([label is not None for label in text.labels[acts.items]])
    np.testing.assert_allclose(read, acts.array()[labelled], atol=2e-5)


def test_a_sentence_is_classified_alone_as_in_a_padded_batch(base: na.Model, words: na.Corpus) -> None:
    classifier = classifier_of(base, 2, seed=0)
    rows = task(words, base).rows["dev"]
    fill = base.tokenizer.pad_token_id
    with torch.no_grad():
        together = classifier(**batch_of(rows, fill))["logits"]
        alone = torch.cat([classifier(**batch_of([row], fill))["logits"] for row in rows])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)


def test_the_loss_is_the_mean_cross_entropy_over_items(base: na.Model, words: na.Corpus) -> None:
    batch = batch_of(task(words, base).rows["dev"], 0)
    with torch.no_grad():
        found = classifier_of(base, 2, seed=0)(**batch)
    log_p = torch.log_softmax(found["logits"].double(), dim=1).numpy()
    expected = -log_p[np.arange(len(log_p)), batch["labels"].numpy()].mean()
    assert abs(float(found["loss"]) - expected) < 1e-6


def test_only_the_body_and_the_classifier_are_free_to_move(base: na.Model) -> None:
    classifier = classifier_of(base, 2, seed=0)
    body = {id(parameter) for parameter in classifier.module.base_model.parameters()}
    for name, parameter in classifier.named_parameters():
        assert parameter.requires_grad == (id(parameter) in body or name.startswith("head."))
    copies = set(map(id, classifier.parameters()))
    assert not copies & set(map(id, base.module.parameters()))


def test_labels_that_cannot_be_learnt_are_refused_in_one_line(base: na.Model, words: na.Corpus) -> None:
    alike = words.relabelled("alike", lambda sentence: ["same"] * len(sentence.words))
    with pytest.raises(ExamplesError, match="two classes"):
        task(alike, base)


def test_a_model_of_two_stacks_is_refused(base: na.Model) -> None:
    class Two:
        kind, name = "seq2seq", "t5"

    with pytest.raises(ChildError, match="t5 has an encoder and a decoder"):
        classifier_of(Two(), 2, seed=0)  # type: ignore[arg-type]
