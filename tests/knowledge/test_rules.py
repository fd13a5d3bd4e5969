"""Rules beside integrated gradients: the direct rise of log P, and attribution patching against corrupted prompts."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import neuronatlas as na
from neuronatlas.knowledge.attribution import attribute_queries, fact_queries
from neuronatlas.knowledge.corruptions import CORRUPTIONS, OtherSubjects, SubjectNoise
from neuronatlas.models.queries import Query, subject_places, with_subject
from tests.knowledge.planted import FACTS, planted_facts, planted_model, planted_neurons

_MODEL = planted_model()


@dataclass(frozen=True)
class _Nothing:
    """A corrupted prompt in which every neuron is 0."""

    def require(self, model: na.Model, asked: Query) -> None:
        pass

    def neurons(self, model: na.Model, asked: Query, site: str) -> Tensor:
        return torch.zeros(len(asked.steps), model.layout(site).n_neurons)


@pytest.mark.parametrize("corruption", [None, *CORRUPTIONS])
@pytest.mark.parametrize("fact", range(FACTS))
def test_planted_neurons_come_first_by_every_rule(planted: na.Model, fact: int, corruption: str | None) -> None:
    asked = planted_facts()[fact]
    rule = "direct" if corruption is None else "attribution-patching"
    how = None if corruption is None else CORRUPTIONS[corruption](planted_facts())
    found = na.locate(planted, asked, rule=rule, corruption=how)
    assert found.members == planted_neurons(planted.layout(), fact).members


def test_patching_against_neurons_of_zero_is_the_gradient_times_the_activation(golden_model: na.Model) -> None:
    prompt = "the capital of france is [MASK] ."
    words = [word for word in golden_model.tokenizer.get_vocab() if word.isalpha()][:1]
    plain = na.attribute(golden_model, prompt, words[0], rule="grad-x-activation")
    patched = na.attribute(golden_model, prompt, words[0], rule="attribution-patching", corruption=_Nothing())
    np.testing.assert_allclose(patched.values, plain.values, atol=1e-15)
    assert np.isnan(patched.gap)


def test_other_subjects_are_the_mean_of_the_prompts_about_them(planted: na.Model) -> None:
    fact, others = planted_facts()[0], ("subject2", "subject3")
    asked = fact_queries(planted, fact)[0]
    found = OtherSubjects.named(*others).neurons(planted, asked, "ffn")[0]
    expected = [
        na.attribute(planted, fact.prompts[0].replace("subject0", name), fact.answer, rule="activation")
        for name in others
    ]
    np.testing.assert_allclose(found, np.mean([one.values for one in expected], axis=0), atol=1e-6)


def test_noise_falls_on_the_subject_alone_and_does_not_depend_on_company(planted: na.Model) -> None:
    queries = [query for fact in planted_facts()[:2] for query in fact_queries(planted, fact).values()]
    places = [subject_places(planted, asked) for asked in queries]
    words = [planted.tokenizer.convert_ids_to_tokens(q.first.ids[p[0]]) for q, p in zip(queries, places, strict=True)]
    assert words == ["subject0"] * 4 + ["subject1"] * 4
    together = list(attribute_queries(planted, queries, rule="attribution-patching"))
    for asked, score in zip(queries, together, strict=True):
        [alone] = attribute_queries(planted, [asked], rule="attribution-patching")
        np.testing.assert_allclose(alone.values, score.values, atol=1e-7)
    still = SubjectNoise(scale=0.0).neurons(planted, queries[0], "ffn")[0]
    np.testing.assert_allclose(still, together[0].activations.values, atol=1e-6)


def test_the_direct_rule_scores_log_p_with_no_gap(planted: na.Model) -> None:
    fact = planted_facts()[0]
    found = na.attribute(planted, fact.prompts[0], fact.answer, rule="direct")
    assert (found.unit, found.way) == ("log P", "direct")
    assert np.isnan(found.gap)
    # In the last layer there is nothing above: these are the slopes of log P = slopes of P over P.
    plain = na.attribute(planted, fact.prompts[0], fact.answer, rule="grad-x-activation")
    np.testing.assert_allclose(found.layer(1), plain.layer(1) / plain.answered.probability, atol=1e-5)


@given(st.integers(0, FACTS - 1), st.integers(0, FACTS - 1), st.integers(0, 3))
def test_asking_about_another_and_back_is_the_first_query(first: int, second: int, prompt: int) -> None:
    model, facts = _MODEL, planted_facts()
    asked = fact_queries(model, facts[first])[prompt]
    other = with_subject(model, asked, f"subject{second}")
    assert other.first.answer_id == asked.first.answer_id
    assert with_subject(model, other, f"subject{first}").steps == asked.steps


def test_prompts_without_a_subject_are_refused(planted: na.Model) -> None:
    fact = planted_facts()[0]
    for corruption in (None, OtherSubjects.named("subject2")):
        with pytest.raises(na.QueryError, match=r"the subject of .* is not known"):
            na.attribute(planted, fact.prompts[0], fact.answer, rule="attribution-patching", corruption=corruption)
        with pytest.raises(na.QueryError, match="'subject4' is not in the prompt"):
            na.attribute(
                planted,
                fact.prompts[0],
                fact.answer,
                subject="subject4",
                rule="attribution-patching",
                corruption=corruption,
            )
    with pytest.raises(na.QueryError, match="no other subject suits"):
        na.attribute(
            planted,
            fact.prompts[0],
            fact.answer,
            subject="subject0",
            rule="attribution-patching",
            corruption=OtherSubjects.named("subject0"),
        )


def test_a_query_that_was_not_made_from_a_text_cannot_be_corrupted(planted: na.Model) -> None:
    asked = replace(fact_queries(planted, planted_facts()[0])[0], wording=None)
    with pytest.raises(na.QueryError, match="is not known"):
        subject_places(planted, asked)
