"""Promises of the reader of CoNLL-U, on made sentences and on treebanks; the library conllu is the oracle."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import conllu
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuronatlas.readers import CorpusFileError, read_corpus

TREEBANKS = [
    "UD_English-EWT/en_ewt-ud-dev.conllu",
    "UD_German-GSD/de_gsd-ud-dev.conllu",
    "UD_Spanish-GSD/es_gsd-ud-test.conllu",
    "UD_French-GSD/fr_gsd-ud-test.conllu",
]
GERMAN = """\
# sent_id = 1
# text = Er ist im Haus.
1\tEr\ter\tPRON\tPPER\tCase=Nom|Number=Sing\t4\tnsubj:pass\t_\tChunk=B-NP
2\tist\tsein\tAUX\t_\tNumber=Sing\t4\tcop\t_\t_
3-4\tim\t_\t_\t_\t_\t_\t_\t_\t_
3\tin\tin\tADP\tAPPR\t_\t5\tcase\t_\t_
4\tdem\tder\tDET\tART\tNumber=Sing\t5\tdet\t_\tExtra|Chunk=I-NP
4.1\tleer\tleer\tADJ\t_\t_\t_\t_\t_\t_
5\tHaus\tHaus\tNOUN\tNN\tNumber=Sing\t0\troot\t_\tSpaceAfter=No
6\t.\t.\tPUNCT\t$.\t_\t5\tpunct\t_\t_

"""


def written(folder: Path, text: str, name: str = "made.conllu") -> Path:
    path = folder / name
    path.write_bytes(text.encode())
    return path


def row(number: str, form: str = "a", **columns: str) -> str:
    names = ("lemma", "upos", "xpos", "feats", "head", "deprel", "deps", "misc")
    return "\t".join([number, form, *(columns.get(name, "_") for name in names)]) + "\n"


def test_words_of_a_multi_word_token_share_its_place_and_empty_nodes_are_left_out(tmp_path: Path) -> None:
    (sentence,) = read_corpus(written(tmp_path, GERMAN), label="upos").sentences
    assert sentence.text == "Er ist im Haus."
    assert sentence.words == ("Er", "ist", "in", "dem", "Haus", ".")
    assert sentence.labels == ("PRON", "AUX", "ADP", "DET", "NOUN", "PUNCT")
    assert [sentence.text[start:end] for start, end in sentence.spans] == ["Er", "ist", "im", "im", "Haus", "."]
    assert sentence.source == "made.conllu, line 3"


@pytest.mark.parametrize(
    ("label", "labels"),
    [
        ("xpos", ["PPER", None, "APPR", "ART", "NN", "$."]),
        ("4", ["PRON", "AUX", "ADP", "DET", "NOUN", "PUNCT"]),
        ("lemma", ["er", "sein", "in", "der", "Haus", "."]),
        ("deprel", ["nsubj:pass", "cop", "case", "det", "root", "punct"]),
        ("deprel.main", ["nsubj", "cop", "case", "det", "root", "punct"]),
        ("feats.Number", ["Sing", "Sing", None, "Sing", "Sing", None]),
        ("feats.Case", ["Nom", None, None, None, None, None]),
        ("feats", ["Case=Nom|Number=Sing", "Number=Sing", None, "Number=Sing", "Number=Sing", None]),
        ("misc.Chunk", ["B-NP", None, None, "I-NP", None, None]),
        ("misc.Extra", [None, None, None, "Yes", None, None]),
    ],
)
def test_a_label_is_any_column_or_feature(label: str, labels: list[str | None], tmp_path: Path) -> None:
    assert read_corpus(written(tmp_path, GERMAN), label=label).labels.tolist() == labels


def test_the_text_is_built_from_the_words_whatever_the_comment_says(tmp_path: Path) -> None:
    path = written(tmp_path, GERMAN.replace("# text = Er ist", "# text = Sie war"))
    assert read_corpus(path, label="upos").sentences[0].text == "Er ist im Haus."


def test_an_underscore_is_a_word_with_its_lemma(tmp_path: Path) -> None:
    corpus = read_corpus(written(tmp_path, row("1", "_") + row("2", "b")), label="lemma")
    assert (corpus.items.tolist(), corpus.labels.tolist()) == (["_", "b"], ["_", None])


def test_the_columns_of_conllu_plus_are_taken_from_its_first_comment(tmp_path: Path) -> None:
    text = "# global.columns = ID FORM UPOS PARSEME:MWE\n1\tgive\tVERB\t1:VPC\n2\tup\tADP\t1\n"
    path = written(tmp_path, text, "made.conllup")
    assert read_corpus(path, label="parseme:mwe").labels.tolist() == ["1:VPC", "1"]
    assert read_corpus(path, label="upos").labels.tolist() == ["VERB", "ADP"]


def test_windows_line_ends_are_no_part_of_the_last_column(tmp_path: Path) -> None:
    corpus = read_corpus(written(tmp_path, GERMAN.replace("\n", "\r\n")), label="misc.Chunk")
    assert (corpus.counts(), corpus.sentences[0].text) == ({"B-NP": 1, "I-NP": 1}, "Er ist im Haus.")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (row("1") + "2\ta\tb\n", "line 2: 3 columns found, 10 expected$"),
        (row("1") + "2 a b\n", "line 2: 1 columns found, 10, separated by tabs, expected$"),
        (row("1") + row("3"), "line 2: word 3 where word 2 is expected$"),
        (row("1") + row("x"), "line 2: 'x' is no number of a word: 2 expected$"),
        (row("1") + row("0"), "line 2: '0' is no number of a word: 2 expected$"),
        (row("1") + row("2", " "), "line 2: the word is empty$"),
        (row("1-2") + row("1"), "line 1: the sentence ends before word 2 of this token$"),
        (row("1-2") + row("1") + row("2-3") + row("2") + row("3"), "line 3: token 2-3 overlaps another, or ends"),
        (row("1") + row("2-1") + row("2"), "line 2: token 2-1 overlaps another, or ends before it begins$"),
        (row("1.1"), "line 1: the sentence has no words$"),
        (row("1") + "\n# text = b\n\n" + row("1"), "line 3: the sentence has no words$"),
        ("# just a comment\n", "there are no sentences$"),
        ("# global.columns = ID UPOS\n1\tX\n", "line 1: the columns are id, upos: id and form, and each of them once"),
    ],
)
def test_a_broken_line_names_file_and_line(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(CorpusFileError, match=rf"made\.conllu(, |: ){message}") as caught:
        read_corpus(written(tmp_path, text), label="form")
    assert "\n" not in str(caught.value)


def test_a_label_that_no_word_has_is_refused_with_those_there_are(tmp_path: Path) -> None:
    message = (
        r"made\.conllu: nothing has a label 'deps': CoNLL-U found, with id, form, lemma, upos, xpos, feats, head, "
        r"deprel, misc, deprel\.main, feats\.Case, feats\.Number, misc\.Chunk, misc\.Extra, misc\.SpaceAfter; suffix,"
    )
    with pytest.raises(CorpusFileError, match=message):
        read_corpus(written(tmp_path, GERMAN), label="deps")


@dataclass(frozen=True)
class Token:
    """What a text writes in one piece: a word, or several that are run together."""

    form: str
    words: tuple[tuple[str, str, str], ...]
    space: bool
    empty_node: bool

    def rows(self, first: int) -> str:
        misc = "_" if self.space else "SpaceAfter=No"
        last = first + len(self.words) - 1
        text = row(f"{first}-{last}", self.form, misc=misc) if self.words[1:] else ""
        own = "_" if self.words[1:] else misc
        for number, (form, upos, value) in enumerate(self.words, start=first):
            text += row(str(number), form, upos=upos, feats=f"A=1|Kind={value}" if value != "_" else "_", misc=own)
        return text + (row(f"{last}.1", "gone", upos="X") if self.empty_node else "")


forms = st.text(st.characters(codec="utf-8", exclude_characters="\t\n\r"), min_size=1, max_size=6).filter(str.strip)
names = st.text(st.characters(codec="utf-8", exclude_characters="\t\n\r|"), min_size=1, max_size=4).filter(str.strip)
labelled_words = st.tuples(forms, names, names)
single = labelled_words.flatmap(
    lambda word: st.builds(Token, st.just(word[0]), st.just((word,)), st.booleans(), st.booleans())
)
several = st.builds(
    Token, forms, st.lists(labelled_words, min_size=2, max_size=3).map(tuple), st.booleans(), st.booleans()
)
sentences = st.lists(st.lists(single | several, min_size=1, max_size=5), min_size=1, max_size=4)


def as_conllu(several: list[list[Token]]) -> str:
    text = ""
    for number, tokens in enumerate(several):
        text += f"# sent_id = {number}\n"
        first = 1
        for token in tokens:
            text += token.rows(first)
            first += len(token.words)
        text += "\n"
    return text


@given(made=sentences)
def test_any_sentences_come_back_as_they_were(
    made: list[list[Token]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = written(tmp_path_factory.getbasetemp(), as_conllu(made), "any.conllu")
    read = read_corpus(path, label="form")
    assert [sentence.words for sentence in read.sentences] == [
        tuple(form for token in tokens for form, _, _ in token.words) for tokens in made
    ]
    for sentence, tokens in zip(read.sentences, made, strict=True):
        pieces = [token.form for token in tokens for _ in token.words]
        assert [sentence.text[start:end] for start, end in sentence.spans] == pieces
        gaps = ["" if token is tokens[-1] or not token.space else " " for token in tokens]
        assert sentence.text == "".join(t.form + gap for t, gap in zip(tokens, gaps, strict=True))


@given(made=sentences)
def test_any_labels_come_back_as_they_were(made: list[list[Token]], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = written(tmp_path_factory.getbasetemp(), as_conllu(made), "any.conllu")
    words = [word for tokens in made for token in tokens for word in token.words]
    for label, column in [("upos", 1), ("feats.Kind", 2)]:
        labels = [None if word[column] == "_" else word[column] for word in words]
        if any(labels):
            assert read_corpus(path, label=label).labels.tolist() == labels


@given(data=st.data())
def test_a_damaged_file_gives_a_corpus_or_one_clear_line(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    content = (GERMAN * 2).encode()
    start = data.draw(st.integers(0, len(content)))
    end = data.draw(st.integers(start, min(len(content), start + 40)))
    path = tmp_path_factory.getbasetemp() / "damaged.conllu"
    path.write_bytes(content[:start] + data.draw(st.binary(max_size=8)) + content[end:])
    try:
        read = read_corpus(path, label="upos")
    except CorpusFileError as error:
        assert "damaged.conllu" in str(error)
        assert len(str(error).split("\n")) == 1
    else:
        assert read.n_items


@pytest.mark.parametrize("treebank", TREEBANKS)
def test_a_treebank_has_the_words_and_labels_that_another_parser_finds(treebank: str, data_dir: Path) -> None:
    path = data_dir / treebank
    with path.open(encoding="utf-8") as file:
        parsed = [
            (sentence.metadata["text"], [token for token in sentence if isinstance(token["id"], int)])
            for sentence in conllu.parse_incr(file)
        ]
    words = [word for _, tokens in parsed for word in tokens]
    corpus = read_corpus(path, label="upos")
    assert [sentence.text for sentence in corpus.sentences] == [text for text, _ in parsed]
    assert corpus.items.tolist() == [word["form"] for word in words]
    assert corpus.labels.tolist() == [word["upos"] for word in words]
    number = Counter((word["feats"] or {}).get("Number") for word in words)
    del number[None]
    assert read_corpus(path, label="feats.Number").counts() == number
