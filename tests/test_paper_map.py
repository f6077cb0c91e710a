"""The paper map: 37 items, and every one that is not open resolves to code, numbers and a place.

That each anchor exists on the built page is part of `make book`: `book/check_site.py` follows every
link of the paper map's page to its fragment.
"""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import yaml

from gnuq import artefacts, paper
from gnuq.artefacts import ROOT
from gnuq.fingerprint import Code
from gnuq.pipeline import reproduce, stages
from gnuq.walkthrough import discrepancies, paper_map

ITEMS = paper.items()
SHOWN = [item for item in ITEMS.values() if item.status == "shown"]


def test_all_items_of_the_paper_have_a_row() -> None:
    assert len(ITEMS) == 15 + 8 + 14
    counted = paper_map.counts()
    assert counted.loc["all"].sum() == 37
    assert counted.loc["all", "shown"] == len(SHOWN)


@pytest.mark.parametrize("item", SHOWN, ids=lambda item: item.item)
def test_a_row_that_is_not_open_resolves(item: paper.Item) -> None:
    for dotted in item.functions:
        module, _, name = dotted.rpartition(".")
        if module.startswith("gnuq."):  # scripts are found by their paths
            assert callable(getattr(import_module(module), name))
        path, first, last = Code(ROOT, ("gnuq", "benchmarks")).lines(dotted)
        assert "def " in "\n".join(path.read_text().splitlines()[first - 1 : last])
    for name in item.artefacts:
        assert len(artefacts.load(*stages.split(name)).frame)
        assert any(name in stage.outputs for stage in stages.stages().values())
    page, _, label = item.anchor.partition("#")
    assert f"({label})=" in (ROOT / f"{page}.md").read_text()
    assert reproduce.wanted(item.item)


def test_an_open_row_says_why_and_cannot_be_reproduced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every row is shown now; one is opened again here."""
    opened = replace(ITEMS["table-2"], status="open", reason="Nobody has measured it.", anchor="")
    monkeypatch.setattr(paper, "items", lambda: ITEMS | {"table-2": opened})
    with pytest.raises(ValueError, match="table-2 is still open: Nobody has measured it."):
        reproduce.wanted("table-2")
    text = paper_map.card(opened)
    assert 'class="gnuq-open"' in text
    assert "Nobody has measured it." in text
    assert paper_map.counts().loc["all", "open"] == 1


def test_the_printed_numbers_are_those_of_the_paper() -> None:
    """Spot checks against the paper's text, typed here a second time."""
    assert paper.printed("table-5")["xor"]["gradient_norm"] == (0.65, 0.68)
    assert paper.printed("table-6")["rings"]["point_laplace"] == (0.19, 0.10)
    assert paper.printed("table-7")["spirals-4"]["2"] == (0.72, 0.88)
    assert paper.printed("table-8")["rings-4"]["0"] == (0.99, 0.89)
    assert paper.printed("table-9")["wave"]["laplace"] == (0.93, 0.97)
    assert paper.printed("table-10")["17412"]["epistemic"] == (0.60, 0.66)
    assert ITEMS["table-3"].printed["rings"] == {"identity": 1.06, "top": 0.05, "bottom": 19.10}
    for row in ITEMS["table-14"].printed.values():
        assert row["pooled"] == sum(n for name, n in row.items() if name != "pooled")


@pytest.mark.parametrize("item", ["table-50", "table-3", "table-11", "figure-1"])
def test_what_is_no_table_of_correlations_is_refused(item: str) -> None:
    with pytest.raises(ValueError, match=f"item.*{item}"):
        paper.printed(item)


@pytest.mark.parametrize("name", sorted(stages.TABLES))
def test_a_saved_table_is_what_its_function_makes_of_the_correlations(name: str) -> None:
    saved = artefacts.load("results", name).frame
    made = stages.TABLES[name](artefacts.load("results", "validation").frame)
    assert list(saved) == list(made)
    for column in made.select_dtypes("number"):
        np.testing.assert_allclose(saved[column], made[column], rtol=1e-12)


def test_ours_stand_beside_the_papers_with_their_difference() -> None:
    table = paper_map.beside(ITEMS["table-5"])
    assert len(table) == 9
    gap = table["Pearson, ours"] - table["paper, 1st"]
    np.testing.assert_allclose(table["difference, 1st"], gap)
    assert paper_map.beside(ITEMS["table-2"]).empty
    assert paper_map.beside(ITEMS["table-3"]).empty  # ratios, not correlations
    assert len(paper_map.beside(ITEMS["table-10"])) >= 20
    far = discrepancies.far_apart(0.15)
    assert set(far.index.get_level_values("item")) <= {f"Table {n}" for n in (5, 6, 7, 8, 9, 10)}
    assert len(discrepancies.far_apart(0.5)) < len(far)


def test_a_card_links_the_place_the_lines_and_the_numbers() -> None:
    text = paper_map.card(ITEMS["table-5"])
    assert 'href="../notebooks/04_1_1_classification.' in text
    assert "gnuq/results/tables.py#L" in text
    assert "data/results/table-5.csv" in text
    assert "data/results/table-5.json" in text
    assert 'class="gnuq-shown"' in text
    assert "<details>" in text
    for item in ("table-3", "table-4"):
        assert "Ours beside the paper" in paper_map.card(ITEMS[item])
    assert "What the paper prints" in paper_map.card(ITEMS["table-14"])


def test_the_scaling_networks_have_four_outputs() -> None:
    counts = discrepancies.parameter_counts()
    assert (counts["four outputs"] == counts["printed"]).all()
    assert (counts["one output"] != counts["printed"]).all()


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"status": "done"}, "status 'done'"),
        ({"artefacts": []}, "needs 'artefacts'"),
        ({"colour": "red"}, "unknown key 'colour'"),
        ({"item": "table-99"}, "not those of the paper"),
        ({"status": "open"}, "needs 'reason'"),
        ({"section": ""}, "table-5: it needs 'section'"),
    ],
)
def test_a_row_that_is_not_complete_is_refused(
    change: dict, match: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = yaml.safe_load(paper.PATH.read_text())
    rows[4] |= change
    (tmp_path / "map.yml").write_text(yaml.safe_dump(rows))
    monkeypatch.setattr(paper, "PATH", tmp_path / "map.yml")
    paper.items.cache_clear()
    try:
        with pytest.raises(ValueError, match=match):
            paper.items()
    finally:
        paper.items.cache_clear()
