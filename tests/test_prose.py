"""No chapter types a result: numbers in sentences and captions come from artefacts, by glue.

A number in prose is allowed if it is quoted from the paper, stands in code or in a formula, names a
section, table, equation or year, or is a setting that no run could change (listed below, each with
its reason). Everything else that looks like a measurement fails: decimals, percentages, powers of
ten, factors, and whole numbers of three digits or more.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import jupytext
import pytest

from gnuq.artefacts import ROOT

PAGES = sorted([*(ROOT / "notebooks").glob("*.md"), *(ROOT / "book").glob("*.md")])
#: What no reader takes for a result, and so may stand in a sentence.
NOT_RESULTS = [
    r"```.*?```",  # code
    r"\$\$.*?\$\$|\$[^$\n]*\$",  # formulas
    r"`[^`\n]*`",  # code and roles, glue among them
    r"\]\([^)\n]*\)",  # addresses
    r"^>[^\n]*$",  # quotations
    r"“[^”]*”|\"[^\"\n]*\"",
    r"§+\s?[\w.]+(?: (?:and|to) [\w.]+)?",  # sections
    r"\bTheorems? \d\.\d(?: and \d\.\d)?|\((?:19|20)\d\d\)",  # theorems, years
    r"\b(?:Tables?|Figures?|Figs?\.|Eqs?\.|Equations?|Theorems?|Section|Prop\.) ?\(?[\w.]+\)?"
    r"(?:(?:,| and| to) \(?\d{1,2}\)?(?![.\d]))*",
    r"\bAppendix [A-Z](?:\.\d+)*|\b[A-Z](?:\.\d+)+",  # an appendix and its sections
    r"\b\d+(?:–\d+){2,}",  # a network's widths: 2–32–32–1
    r"\(\d{1,2}\)",  # an equation
    r"\b(?:PyMC|ArviZ|Python|Jupyter Book|Llama|Phi|arXiv|CC BY) ?[-\d.]+",  # names and versions
    r"N\(0, [^)]*\)",  # a prior
]
LOOKS_LIKE_A_RESULT = re.compile(
    r"(?<![\w.])[−-]?\d*\.\d+|\d+(?:\.\d+)? ?%|10\^|\d+ ?×(?! ?\d)|\bfactor (?:of )?\d+|\b\d{3,}\b"
)
#: Settings that are typed where they explain a choice: page → texts.
SETTINGS: dict[str, list[str]] = {
    "01_introduction": ["100, 400 and 1600 training points"],
    "02_background": ["between 0.3 and 0.7", "within 0.02 of certainty", "0.001 or 0.02"],
    "03_3_aleatoric": ["10 000 points", "400 points", "Of the 104 weights"],
    "03_gradient_norms": ["400 points"],
    "04_1_1_classification": [
        "300 to 400 points", "below 1.01", "above 400", "10 000 grid points", "the inner 90 %",
    ],
    "04_1_2_scaling": [
        "Up to 67 588 parameters", "Four rings, 400 points", "2.25 over the fan-in",
        "up to width 128", "the inner 90 %", "at 1 284 parameters", "4 612 parameters",
        "a precision of 0.1",
    ],
    "04_1_methods": ["draw 200 weight vectors", "rate 0.1 and 100 masks", "the inner 90 %"],
    "04_2_question_answering": [
        "temperature 0.1", "300 times", "300 bootstrap runs", "95 % of the bootstrap runs",
    ],
    "04_1_ood": [
        "400 points", "400 fresh points", "360 points", "for 40 points as for 400", "t = 100",
        "exceeds 0.05", "(95 %,", "below 0.01",  # thresholds whose share is the result
    ],
    "d_more_maps": ["A random map would reach 10 %"],
    "discrepancies": ["400 inputs", "The last width, 1028", "a slip for 1024", "off by 0.15"],
    "e_regression": ["noise 0.3", "noise 0.2", "the inner 90 %", "400 points"],
    "f_validation": ["97 and 1 185", "above 400", "within 2×"],
    "score_your_model": ["Is 0.003 high?", "a prompt of 128"],
}  # fmt: skip


def prose(page: Path) -> str:
    """A page's sentences, front matter and whatever `NOT_RESULTS` lists taken out."""
    text = re.sub(r"\A---.*?^---$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    for pattern in NOT_RESULTS:
        text = re.sub(pattern, " ", text, flags=re.DOTALL | re.MULTILINE)
    return text


def captions(page: Path) -> list[str]:
    """The constant parts of captions and alternative texts."""
    found: list[str] = []
    if "kernelspec:" not in page.read_text():
        return found  # a page without cells
    for cell in jupytext.read(page).cells:
        if cell.cell_type != "code":
            continue
        for node in ast.walk(ast.parse(re.sub(r"^%.*$", "", cell.source, flags=re.MULTILINE))):
            if isinstance(node, ast.keyword) and node.arg in ("alt", "caption"):
                found += [
                    str(part.value)
                    for part in ast.walk(node.value)
                    if isinstance(part, ast.Constant)
                ]
    return found


def test_the_scan_finds_what_it_should() -> None:
    """Typed results are found; the same numbers in quotations, code, formulas are not."""
    page = Path("none.md")
    for typed in (
        "reaches 0.93",
        "is .87",
        "grows by 20 %",
        "a factor of 7",
        "6144 draws",
        "3× as",
    ):
        assert results(f"The correlation {typed} here.", page), typed
    for fine in (
        "> it reaches 0.93",
        "“0.93”",
        "`0.93`",
        "$0.93$",
        "§4.1.1",
        "Table 10",
        "Tables 5 to 9",
        "Eq. (10)",
        "2–32–32–1",
        "{glue:text}`r`",
        "[§3.3](03_3.md)",
        "three of five",
        "F.2.4",
    ):
        assert not results(f"See\n{fine}\nhere.", page), fine


def results(text: str, page: Path) -> list[str]:
    for pattern in NOT_RESULTS:
        text = re.sub(pattern, " ", text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"\s+", " ", text)
    for setting in SETTINGS.get(page.stem, []):
        text = text.replace(setting, " ")
    return [match.group() for match in LOOKS_LIKE_A_RESULT.finditer(text)]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_no_sentence_types_a_result(page: Path) -> None:
    lines = [(line, found) for line in prose(page).splitlines() if (found := results(line, page))]
    assert not lines


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_no_caption_types_a_result(page: Path) -> None:
    assert not [(text, found) for text in captions(page) if (found := results(text, page))]
