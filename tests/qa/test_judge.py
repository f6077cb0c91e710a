"""Verdicts on answers, by words, by similarity and by a model; and how far a judge is trusted."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gnuq.qa import judge, judge_model
from gnuq.qa.agreement import agreement
from gnuq.qa.words import normalised, one_line
from tests.language_models import tiny


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The  Beatles.", "beatles"),
        ("An apple a day", "apple day"),
        ("Beyoncé Knowles-Carter", "beyonce knowles carter"),
        ("Tromsø, Łódź, Straße, Æsir", "tromso lodz strasse aesir"),
        ("Marks & Spencer", "marks and spencer"),
        ("U.S.A.", "usa"),
        ("Rubik's “Cube”", "rubiks cube"),
        ("1,234,567 km", "1234567 km"),
        ("1, 2,3", "1 2 3"),
        ("1.5", "1.5"),
        (".5 and 5.", ".5 and 5"),
        ("wait… 3, No.5", "wait 3 no5"),
        ("-5 °C", "-5 ° c"),
        ("−.5", "-.5"),
        ("1914–1918", "1914 1918"),
        ("50%", "50 %"),
        ("The The", "the the"),
        ("A", "a"),
        ("東京", "東京"),
        ("?!", ""),
    ],
)
def test_texts_as_plain_words(text: str, words: str) -> None:
    assert normalised(text) == words


@given(st.text("aA thE.,-–'&1234éßø%$°\0\1", max_size=12))
def test_plain_words_stay_as_they_are(text: str) -> None:
    """Once plain, always plain: case, blanks and articles in front change nothing more."""
    words = normalised(text)
    assert normalised(f"  {words} \n") == words
    assert "  " not in words
    assert one_line(text) == " ".join(text.split())


@pytest.mark.parametrize(
    ("answer", "alias", "correct"),
    [
        ("It was Paris, the capital.", "paris", True),
        ("Parisian", "Paris", False),
        ("Paris", "Paris, France", False),
        ("The answer is 15", "1.5", False),
        ("5", "-5", False),
        ("the u.s. of A.", "US", True),
        ("Simon and Garfunkel", "Simon & Garfunkel", True),
        ("Pelé", "Pele", True),
        ("anything", "?", False),
        ("The The", "The The", True),
    ],
)
def test_an_alias_counts_as_whole_words_within_the_answer(
    answer: str, alias: str, correct: bool
) -> None:
    assert judge.alias_match(answer, ["nowhere", alias]) is correct


def test_verdicts_by_alias() -> None:
    found = judge.by_alias("It was Samuel Clemens, Mark Twain", ["Twain", "Clemens", "Melville"])
    assert found.as_row() == {"correct": True, "reason": None, "matches": 2}
    found = judge.by_alias("Melville", ["Twain"])
    assert found.as_row() == {"correct": False, "reason": None, "matches": 0}


def encoder(texts: Sequence[str]) -> np.ndarray:
    """The question is the third axis; with the answer "30" it is 60° off, turned by 30°."""
    angles = [np.radians(float(text.split()[1])) if " " in text else None for text in texts]
    return np.array(
        [
            (0, 0, 1) if x is None else (0.75**0.5 * np.cos(x), 0.75**0.5 * np.sin(x), 0.5)
            for x in angles
        ]
    )


def test_verdicts_by_similarity() -> None:
    """The closest reference of either kind decides, not their means; a tie is incorrect, and so is
    what is far from everything, and farther still from the incorrect ones."""
    found = judge.by_similarity(encoder, "Where?", "0", ["10", "170"], ["-20", "-25", "-30"])
    assert found.correct is True
    assert found.evidence == {
        "to_correct": pytest.approx(np.cos(np.radians(10))),
        "to_incorrect": pytest.approx(np.cos(np.radians(20))),
    }
    assert judge.by_similarity(encoder, "Where?", "0", ["30"], ["-20", "90"]).correct is False
    assert judge.by_similarity(encoder, "Where?", "0", ["30"], ["30"]).correct is False
    assert judge.by_similarity(encoder, "Where?", "0", ["59"], ["70"]).correct is True
    assert judge.by_similarity(encoder, "Where?", "0", ["61"], ["70"]).correct is False


def test_what_cannot_be_judged_is_undecided_with_a_reason() -> None:
    blank = judge.by_alias(" ", ["Twain"])
    assert (blank.correct, blank.reason) == (None, judge.BLANK)
    assert (
        judge.by_alias("Twain", []).reason
        == "the benchmark has no correct answers to this question"
    )
    found = judge.by_similarity(encoder, "Where?", "0", ["10"], [])
    assert found.correct is None
    assert found.reason == "the benchmark has no incorrect answers to this question"
    assert np.isnan(list(found.evidence.values())).all()


@pytest.mark.parametrize(
    ("said", "correct"),
    [
        ("yes", True),
        (" Yes.", True),
        ("YES, it does", True),
        ("no", False),
        ("No\nQuestion: is it", False),
        ("no idea", None),
        ("yes or no", None),
        ("Yes, no", None),
        ("nothing", None),
        ("The answer is yes", None),
        ("", None),
        ("maybe", None),
    ],
)
def test_a_judge_says_yes_or_no_or_nothing(said: str, correct: bool | None) -> None:
    assert judge_model.meaning(said) is correct


class Judge:
    """Stands for `generate`: keeps what it is asked, says what it was told to say."""

    def __init__(self, *said: str) -> None:
        self.said, self.prompts = said, []

    def __call__(self, model: Any, tokenizer: Any, prompts: Any, **settings: Any) -> list[Any]:
        self.prompts += [tokenizer.decode(ids, skip_special_tokens=True) for ids in prompts]
        return [SimpleNamespace(text=text) for text in self.said[: len(prompts)]]


def test_a_judges_text_is_read_and_never_defaulted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blank answers are not asked, prompts that are too long neither; the rest keeps its order."""
    asked = Judge("yes", "perhaps", " no ")
    monkeypatch.setattr(judge_model, "generate", asked)
    model = SimpleNamespace(config=SimpleNamespace(max_position_embeddings=2000))
    answers = ["Twain", " ", "Poe", "x" * 2000, "Melville"]
    found = judge_model.by_model(
        model, tiny.tokenizer(), ["Who\nwrote it?"] * 5, answers, [["Mark Twain"]] * 5
    )
    assert [one.correct for one in found] == [True, None, None, None, False]
    reasons = [None, judge.BLANK, judge_model.NEITHER, judge_model.TOO_LONG, None]
    assert [one.reason for one in found] == reasons
    assert [one.evidence["said"] for one in found] == ["yes", None, "perhaps", None, "no"]
    assert asked.prompts == [
        judge_model.prompt("Who wrote it?", ["Mark Twain"], text)
        for text in ("Twain", "Poe", "Melville")
    ]
    assert asked.prompts[0].endswith(
        "\n\nQuestion: Who wrote it?\nExpected answers: Mark Twain\nProposed answer: Twain\n"
        "Does it mean the same?"
    )


def test_a_real_judge_of_random_weights_decides_nothing() -> None:
    model = tiny.llama(max_position_embeddings=4096)
    found = judge_model.by_model(model, tiny.tokenizer(), ["Who?"], ["me"], [["you"]])
    assert (found[0].correct, found[0].reason) == (None, judge_model.NEITHER)
    again = judge_model.by_model(model, tiny.tokenizer(), ["Who?"] * 2, ["", ""], [["you"]] * 2)
    assert [one.reason for one in again] == [judge.BLANK] * 2


def test_a_judge_sees_so_many_references() -> None:
    shown = judge_model.prompt("Who?", [f"name{i}" for i in range(100)], "me")
    assert f"name{judge_model.MOST - 1}\n" in shown
    assert f"name{judge_model.MOST}" not in shown


def verdicts(*correct: bool | None, start: int = 0) -> pd.DataFrame:
    ids = [str(start + i) for i in range(len(correct))]
    return pd.DataFrame({"id": ids, "correct": pd.array(correct, dtype="boolean")})


def test_agreement_counts_what_both_decided() -> None:
    """3 of 5 agree; κ = (0.6 − 0.48) / (1 − 0.48) by hand, Wilson's interval from its formula."""
    judged = verdicts(True, True, True, False, False, None, True)
    by_hand = verdicts(True, True, False, False, True, True, None, True)
    found = agreement(judged, by_hand)
    assert (found["n"], found["undecided"]) == (5, 2)
    counts = found[["both_correct", "both_wrong", "judge_only", "hand_only"]]
    assert list(counts) == [2, 1, 1, 1]
    assert found["accuracy"] == pytest.approx(0.6)
    chance = 0.6 * 0.6 + 0.4 * 0.4
    assert found["kappa"] == pytest.approx((0.6 - chance) / (1 - chance))
    z, n, p = 1.959964, 5, 0.6
    centre, half = p + z**2 / (2 * n), z * (p * (1 - p) / n + z**2 / (4 * n**2)) ** 0.5
    assert found["low"] == pytest.approx((centre - half) / (1 + z**2 / n), abs=1e-6)
    assert found["high"] == pytest.approx((centre + half) / (1 + z**2 / n), abs=1e-6)


def test_agreement_at_its_ends() -> None:
    same = agreement(verdicts(True, False, True), verdicts(True, False, True))
    assert (same["accuracy"], same["kappa"], same["high"]) == (1, pytest.approx(1), 1)
    assert np.isnan(agreement(verdicts(True, True), verdicts(True, True))["kappa"])
    other = agreement(verdicts(True, False), verdicts(False, True))
    assert (other["accuracy"], other["kappa"]) == (0, pytest.approx(-1))


@pytest.mark.bad_input
def test_tables_that_cannot_be_compared() -> None:
    with pytest.raises(ValueError, match="by_hand: the judge decided none of its questions"):
        agreement(verdicts(True), verdicts(True, start=5))
    twice = pd.concat([verdicts(True), verdicts(False)])
    with pytest.raises(ValueError, match="judged: it has the id '0' twice"):
        agreement(twice, verdicts(True))
