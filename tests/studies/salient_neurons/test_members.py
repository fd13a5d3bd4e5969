"""The whole study with a child and its control: who takes part, with which text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import neuronatlas as na
from neuronatlas.studies.children.record import Child, sentence_digest
from tests.probing.planted_property import planted_corpus, planted_model
from tests.studies.test_salient_study import SETTINGS


def child_of(base: na.Model, corpus: na.Corpus, folder: Path, child: na.Model, *, shuffled: bool = False) -> na.Source:
    """A child whose record says that it was trained on the first sentences of a corpus."""
    record: dict[str, Any] = {
        "base": {"name": base.name, "digest": base.digest},
        "digest": child.digest,
        "task": {"label": "planted", "classes": ["class0", "class1"]},
        "settings": {"seed": 0, "shuffled": shuffled},
        "layers": [],
        "trained": [sentence_digest(sentence) for sentence in corpus.sentences[:10]],
    }
    return na.Source.of_child(Child(folder, record), "base", lambda: child)


def test_a_study_leaves_out_what_its_children_were_trained_on_and_compares_them_with_their_base(tmp_path: Path) -> None:
    base, tuned, text = planted_model(), planted_model(0.02), planted_corpus(70)
    sources = [
        na.Source("base", lambda: base),
        child_of(base, text, tmp_path / "child", tuned),
        child_of(base, text, tmp_path / "control", planted_model(0.01), shuffled=True),
    ]
    atlas = na.salient_study(sources, [text], tmp_path / "study", SETTINGS, progress=False)
    seen = {sentence_digest(sentence) for sentence in text.sentences[:10]}
    left = sum(sentence_digest(sentence) not in seen for sentence in text.sentences)
    assert atlas.meta["settings"]["n_sentences"] == left < 70
    assert atlas.table("child_pairs").filter(of="top")["role"].to_list() == ["child", "shuffled child"]
    assert atlas.table("members")["role"].to_list() == ["model", "child", "shuffled child"]
    assert base.name != "base"  # a caller's model keeps its own name
    assert '<section id="fine-tuning">' in na.write_report(tmp_path / "study").read_text("utf-8")
