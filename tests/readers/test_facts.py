"""Promises of `read_facts` that hold for every format."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from neuronatlas.knowledge.facts import MASK, Fact, repeated_facts
from neuronatlas.readers import FACT_FORMATS, FactFileError, FactFormat, read_facts

FACTS = (
    Fact("capital", "France", "Paris", ["The capital of France is [MASK].", "[MASK] is the capital of France."]),
    Fact("capital", "New Zealand", "Wellington", ["New Zealand's capital is [MASK]."]),
    Fact("language", "France", "French", ['They say "bonjour", in France: [MASK].', "{answer} is spoken in France."]),
)

plain = st.text(alphabet=st.characters(codec="utf-8", exclude_characters="[]{}<>"), max_size=20)
words = plain.map(str.strip).filter(bool)
prompts = st.lists(st.tuples(plain, plain).map(MASK.join), min_size=1, max_size=4, unique=True)
facts = st.builds(Fact, words, words, words, prompts)
fact_lists = st.lists(facts, min_size=1, max_size=5).filter(lambda several: not repeated_facts(several))


def json_lines(several: Sequence[Fact]) -> str:
    records = [
        {"relation": fact.relation, "subject": fact.subject, "answer": fact.answer, "prompts": fact.prompts}
        for fact in several
    ]
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


def single_json_lines(several: Sequence[Fact]) -> str:
    records = [
        {"relation": fact.relation, "subject": fact.subject, "answer": fact.answer, "prompt": prompt}
        for fact in several
        for prompt in fact.prompts
    ]
    return "".join(json.dumps(record) + "\n" for record in records)


def table(several: Sequence[Fact], delimiter: str = ",") -> str:
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=delimiter)
    writer.writerow(["relation", "subject", "answer", "prompt"])
    writer.writerows((fact.relation, fact.subject, fact.answer, prompt) for fact in several for prompt in fact.prompts)
    return text.getvalue()


def bags(several: Sequence[Fact]) -> str:
    relations: dict[str, list[list[list[str]]]] = {}
    for fact in several:
        bag = [[prompt, fact.answer, fact.relation] for prompt in fact.prompts]
        relations.setdefault(fact.relation, []).append(bag)
    return json.dumps(relations)


def written(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return path


WRITERS: dict[str, Callable[[Sequence[Fact]], str]] = {
    ".jsonl": json_lines,
    ".ndjson": single_json_lines,
    ".csv": table,
    ".tsv": lambda several: table(several, "\t"),
}


@pytest.mark.parametrize("suffix", WRITERS)
def test_facts_come_back_from_every_format_with_a_subject(suffix: str, tmp_path: Path) -> None:
    assert read_facts(written(tmp_path, f"facts{suffix}", WRITERS[suffix](FACTS))) == FACTS


@pytest.mark.parametrize("suffix", WRITERS)
@given(several=fact_lists)
def test_any_facts_come_back_as_they_were(
    suffix: str, several: list[Fact], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = written(tmp_path_factory.getbasetemp(), f"any{suffix}", WRITERS[suffix](several))
    assert read_facts(path) == tuple(several)


@given(several=fact_lists)
def test_any_bags_come_back_with_their_prompts_and_answers(
    several: list[Fact], tmp_path_factory: pytest.TempPathFactory
) -> None:
    by_relation = sorted(several, key=lambda fact: [other.relation for other in several].index(fact.relation))
    nameless = [Fact(fact.relation, None, fact.answer, fact.prompts) for fact in by_relation]
    assume(not repeated_facts(nameless))
    read = read_facts(written(tmp_path_factory.getbasetemp(), "any.json", bags(several)))
    assert [(f.relation, f.answer, f.prompts) for f in read] == [(f.relation, f.answer, f.prompts) for f in nameless]


@pytest.mark.parametrize("suffix", [*WRITERS, ".json"])
def test_a_gzipped_file_reads_as_the_plain_one(suffix: str, tmp_path: Path) -> None:
    text = WRITERS.get(suffix, bags)(FACTS)
    packed = read_facts(written(tmp_path, f"facts{suffix}.gz", text))
    assert packed == read_facts(written(tmp_path, f"facts{suffix}", text))


@pytest.mark.parametrize("name", ["facts", "facts.txt", "facts.2024", "facts.json"])
@pytest.mark.parametrize("writer", [json_lines, single_json_lines, bags, table])
def test_the_content_tells_the_format_where_the_suffix_does_not(
    name: str, writer: Callable[[Sequence[Fact]], str], tmp_path: Path
) -> None:
    if name == "facts.json" and writer is table:
        with pytest.raises(FactFileError, match="the format is not known"):
            read_facts(written(tmp_path, name, writer(FACTS)))
    else:
        read = read_facts(written(tmp_path, name, writer(FACTS)))
        assert [fact.prompts for fact in read] == [fact.prompts for fact in FACTS]


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path) -> None:
    assert read_facts(written(tmp_path, "facts.csv", "\ufeff" + table(FACTS))) == FACTS


def test_relations_are_chosen_by_name_or_by_id(tmp_path: Path) -> None:
    several = [
        Fact("P36(capital)", "France", "Paris", ["a [MASK]"]),
        Fact("P361(part)", "France", "Europe", ["b [MASK]"]),
    ]
    path = written(tmp_path, "facts.csv", table(several))
    assert read_facts(path, relations=["P36"]) == read_facts(path, relations=["P36(capital)"]) == (several[0],)
    assert read_facts(path, relations="P361") == (several[1],)
    assert read_facts(path, relations=["P361", "P36"]) == tuple(several)


def test_an_unknown_relation_is_refused_with_those_there_are(tmp_path: Path) -> None:
    path = written(tmp_path, "facts.csv", table(FACTS))
    with pytest.raises(FactFileError, match=r"facts\.csv: no relation 'currency': the file has capital, language$"):
        read_facts(path, relations=["capital", "currency"])


def test_a_limit_counts_the_facts_of_each_relation(tmp_path: Path) -> None:
    assert read_facts(written(tmp_path, "facts.csv", table(FACTS)), limit=1) == (FACTS[0], FACTS[2])
    with pytest.raises(ValueError, match="limit is 0"):
        read_facts(tmp_path / "facts.csv", limit=0)


def test_a_file_may_use_another_mask_token(tmp_path: Path) -> None:
    several = (Fact("capital", "France", "Paris", ["France: <mask>"]),)
    path = written(tmp_path, "facts.jsonl", json_lines(several))
    assert read_facts(path, places=("<mask>",)) == several
    with pytest.raises(FactFileError, match=r"facts\.jsonl, line 1: no \[MASK\] in prompt 1 of fact 'France': "):
        read_facts(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FactFileError, match=r"none\.csv: no such file$"):
        read_facts(tmp_path / "none.csv")


def test_a_folder_is_no_file_of_facts(tmp_path: Path) -> None:
    with pytest.raises(FactFileError, match=r"cannot be read \(Is a directory\)$"):
        read_facts(tmp_path)


@pytest.mark.parametrize("form", FACT_FORMATS, ids=lambda form: form.name)
@pytest.mark.parametrize("text", ["", " \n\n"])
def test_an_empty_file_is_refused(form: FactFormat, text: str, tmp_path: Path) -> None:
    for suffix in form.suffixes:
        with pytest.raises(FactFileError, match=r"the file is empty$"):
            read_facts(written(tmp_path, f"facts{suffix}", text))


@pytest.mark.parametrize(("name", "text"), [("f.json", "{}"), ("f.csv", "relation,subject,answer,prompt\n")])
def test_a_file_that_holds_no_facts_is_refused(name: str, text: str, tmp_path: Path) -> None:
    with pytest.raises(FactFileError, match=r"the file holds no facts$"):
        read_facts(written(tmp_path, name, text))


def test_text_that_is_not_utf8_names_the_line(tmp_path: Path) -> None:
    path = tmp_path / "facts.csv"
    path.write_bytes(table(FACTS).encode() + "capital,Österreich,Wien,[MASK]".encode("latin-1"))
    with pytest.raises(FactFileError, match=r"facts\.csv, line 7: byte 0xd6 is not UTF-8 text$"):
        read_facts(path)


@pytest.mark.parametrize("keep", [8, 30, -4])
def test_a_broken_archive_is_refused(keep: int, tmp_path: Path) -> None:
    path = tmp_path / "facts.csv.gz"
    path.write_bytes(gzip.compress(table(FACTS).encode())[:keep])
    with pytest.raises(FactFileError, match=r"facts\.csv\.gz: the gzip archive is broken"):
        read_facts(path)


@pytest.mark.parametrize("text", ["Paris is the capital of France.", "[1, 2]", '{"a": 1}', '"x"'])
def test_a_file_of_no_known_format_is_refused_with_the_known_ones(text: str, tmp_path: Path) -> None:
    with pytest.raises(FactFileError, match="the format is not known: JSON lines, ParaRel's bags, a table"):
        read_facts(written(tmp_path, "facts.txt", text))


def test_a_fact_that_stands_twice_names_both_lines(tmp_path: Path) -> None:
    again = Fact("capital", "France", "Paris", ["Paris: [MASK]"])
    with pytest.raises(FactFileError, match=r"facts\.jsonl, line 4: fact 'France' stands twice, first at line 1$"):
        read_facts(written(tmp_path, "facts.jsonl", json_lines([*FACTS, again])))


@pytest.mark.parametrize("suffix", [*WRITERS, ".json", ".txt"])
@given(data=st.data())
def test_a_damaged_file_gives_facts_or_one_clear_line(
    suffix: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    content = WRITERS.get(suffix, bags)(FACTS).encode()
    start = data.draw(st.integers(0, len(content)))
    end = data.draw(st.integers(start, min(len(content), start + 30)))
    path = tmp_path_factory.getbasetemp() / f"damaged{suffix}"
    path.write_bytes(content[:start] + data.draw(st.binary(max_size=8)) + content[end:])
    try:
        read = read_facts(path)
    except FactFileError as error:
        assert str(error).startswith(str(path))
        assert "\n" not in str(error)
    else:
        assert read
