"""Promises of the reader of ParaRel's bags, on made ones and on the published file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from neuronatlas.knowledge.facts import Fact
from neuronatlas.readers import FactFileError, FactFileWarning, read_facts

CAPITAL = "P36(capital)"


def bag(subject: str, answer: str, relation: str = CAPITAL) -> list[list[str]]:
    prompts = [f"The capital of {subject} is [MASK].", f"{subject}'s capital is [MASK]."]
    return [[prompt, answer, relation] for prompt in prompts]


def bags(folder: Path, relations: Any) -> Path:
    path = folder / "bags.json"
    path.write_text(relations if isinstance(relations, str) else json.dumps(relations, indent=0), encoding="utf-8")
    return path


def test_a_bag_is_a_fact_with_its_subject_recovered(tmp_path: Path) -> None:
    path = bags(tmp_path, {"P36": [bag("France", "Paris"), bag("New Zealand", "Wellington")]})
    assert read_facts(path) == (
        Fact(CAPITAL, "France", "Paris", ["The capital of France is [MASK].", "France's capital is [MASK]."]),
        Fact(
            CAPITAL,
            "New Zealand",
            "Wellington",
            ["The capital of New Zealand is [MASK].", "New Zealand's capital is [MASK]."],
        ),
    )


def test_a_bag_that_repeats_another_is_left_out_with_a_warning(tmp_path: Path) -> None:
    path = bags(tmp_path, {"P36": [bag("France", "Paris"), bag("Italy", "Rome"), bag("France", "Paris")]})
    message = r"bags\.json: bags left out .*: 1 \(relation P36, bag 3 says what relation P36, bag 1 says\)$"
    with pytest.warns(FactFileWarning, match=message) as caught:
        assert [fact.subject for fact in read_facts(path)] == ["France", "Italy"]
    assert caught[0].filename == __file__


def test_a_subject_asked_for_in_two_bags_is_refused_rather_than_halved(tmp_path: Path) -> None:
    more = [["France has the capital [MASK].", "Paris", CAPITAL], ["France and its capital, [MASK].", "Paris", CAPITAL]]
    also = [["Italy has the capital [MASK].", "Rome", CAPITAL], ["Italy and its capital, [MASK].", "Rome", CAPITAL]]
    path = bags(tmp_path, {"P36": [bag("France", "Paris"), bag("Italy", "Rome"), more, also]})
    with pytest.raises(FactFileError, match=r"bag 3: fact 'France' stands twice, first at relation P36, bag 1$"):
        read_facts(path)


@pytest.mark.parametrize(
    ("relations", "message"),
    [
        ('{"P36": [\n[["a', r"bags\.json, line 2: the file is no JSON \(column 3: "),
        ('{"P36": [], "P36": []}', r"bags\.json: the file is no JSON \(key 'P36' stands twice"),
        ({"P36": []}, "relation P36: no bag of prompts found"),
        ({"P36": [bag("France", "Paris")], "P37": 3}, "relation P37: no bag of prompts found"),
        ({"P36": [bag("France", "Paris"), []]}, "relation P36, bag 2: .. found: a list of prompts expected$"),
        ({"P36": [bag("France", "Paris"), "x"]}, "relation P36, bag 2: 'x' found: a list of prompts expected$"),
        ({"P36": [[["a [MASK]", "b", CAPITAL], ["a [MASK]"]]]}, r"bag 1: prompt 2 is \['a \[MASK\]'\]: "),
        ({"P36": [bag("France", "Paris", "P37(x)")]}, r"relation P36: the first prompt says .* 'P37\(x\)'$"),
        ({"P36": [bag("France", "Paris"), bag("Italy", "Rome", "P37")]}, "bag 2: prompt 1 is of relation 'P37': "),
        (
            {"P36": [[*bag("France", "Paris"), *bag("Italy", "Rome")]]},
            "relation P36, bag 1: prompt 3 has the answer 'Rome', prompt 1 has 'Paris'$",
        ),
        ({"P36": [[["Paris.", "Paris", CAPITAL]]]}, r"relation P36, bag 1: no \[MASK\] in prompt 1 of fact 'Paris\.'"),
        ({"P36": [[["a [MASK]", 4, CAPITAL]]]}, "relation P36, bag 1: answer is 4: a text expected$"),
        ({"P36": [bag("France", "Paris") * 2]}, "relation P36, bag 1: prompt 3 of fact .* repeats prompt 1"),
    ],
)
def test_a_broken_bag_names_file_relation_and_bag(relations: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(FactFileError, match=message) as caught:
        read_facts(bags(tmp_path, relations))
    assert str(caught.value).startswith(str(tmp_path / "bags.json"))


def test_the_bags_of_the_public_implementation_are_read(golden_dir: Path) -> None:
    read = read_facts(golden_dir / "knowledge-neurons" / "bags.json")
    assert {fact.relation for fact in read} == {CAPITAL}
    assert ("Azerbaijan", "Baku") in {(fact.subject, fact.answer) for fact in read}
    assert all(fact.subject and fact.subject in prompt for fact in read for prompt in fact.prompts)


def test_the_published_file_gives_its_facts_with_their_subjects(data_dir: Path) -> None:
    with pytest.warns(FactFileWarning, match=r": 2 \(relation P1376, bag 47 says what relation P1376, bag 42 says\)$"):
        read = read_facts(data_dir / "pararel" / "data_all_allbags.json.gz", relations=["P36", "P1376"])
    assert len(read) == 703 + 234 - 2
    assert [fact.subject for fact in read[:2]] == ["Edmonton", "Ankara"]
    for relation in (CAPITAL, "P1376(capital of)"):
        of_relation = [fact for fact in read if fact.relation == relation]
        templates = {tuple(p.replace(f.subject or "", "{}") for p in f.prompts) for f in of_relation}
        assert len(templates) == 1


def test_a_relation_that_the_published_file_lacks_is_refused(data_dir: Path) -> None:
    with pytest.raises(FactFileError, match=r"no relation 'P999': the file has P159\(headquarters location\), P30"):
        read_facts(data_dir / "pararel" / "data_all_allbags.json.gz", relations=["P999"])
