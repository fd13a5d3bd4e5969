"""The table of findings: every number comes from the study's tables, beside what is confirmed of the paper's."""

import sys
from pathlib import Path

from neuronatlas.atlas import Atlas

# The scripts find each other in their own folder, as they do when they are run.
sys.path.append(str(Path(__file__).resolve().parents[3] / "benchmarks"))

import knowledge_findings


def test_findings_are_told_beside_the_published_numbers(finished: Atlas) -> None:
    text = knowledge_findings.as_markdown([finished.folder, finished.folder])
    plain = text.replace("\N{MINUS SIGN}", "-").replace("\N{NO-BREAK SPACE}", " ")
    rows = {cells[1].strip(): cells[2:5] for line in plain.splitlines() if len(cells := line.split("|")) > 4}
    assert rows["neurons a fact"][0].strip() == "about 4"
    assert rows["neurons a fact"][1].strip() == rows["neurons a fact"][2].strip() == "2.00"
    assert rows["suppressed, located: change of P"][0].strip() == "-29 %"
    assert rows["suppressed, activation: change of P"][0].strip() == "-1.5 %"
    assert rows["update, normalised: success rate"][0].strip() == "34.4 %"
    assert rows["update, exact: success rate"][1].strip().startswith("100.0 %")
    assert rows["update, random: perplexity of other relations"][0].strip() == "+4.3 of perplexity"
    summary = finished.table("summary").filter(relation="all", condition="located", gain=0.0)
    assert f"{100 * summary['change'][0]:.0f} %" in rows["suppressed, located: change of P"][1]
    for unconfirmed in ("4.13", "1.23", "48.5"):
        assert unconfirmed not in plain
