"""The explorer of single questions says what the records say; quotations follow a rule."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from gnuq import artefacts
from gnuq.artefacts import Origin, files
from gnuq.language_models import ModelError
from gnuq.pipeline import examples
from gnuq.pipeline.replay import largest_difference
from gnuq.qa import benchmarks, datasets, study
from gnuq.qa.columns import DIRECTION
from gnuq.qa.joined import BASELINES, joined
from gnuq.qa.settings import Run
from gnuq.qa.steps import SCORES, STEPS
from gnuq.qa.token_shares import token_shares
from gnuq.qa.tools import tools
from gnuq.scoring import score
from gnuq.walkthrough import quoted_answers, single_questions
from gnuq.walkthrough.single_questions import (
    CONFIDENT,
    FILTERS,
    LABELS,
    UNCERTAIN,
    answers_of,
    chosen,
    percentiles,
    view,
)
from gnuq.widgets import question_cards
from gnuq.widgets import single_questions as explorer
from gnuq.widgets.question_cards import number
from gnuq.widgets.single_questions import Questions
from tests.qa.conftest import model, questions, run  # noqa: F401  (fixtures)

HOSTILE = "</div><script>alert(1)</script> & \\(x\\)"
COUNT = 40
ONE = ("m", "truthfulqa")
ORIGIN = Origin(code="test")


def made_up(name: str, benchmark: str) -> dict[str, pd.DataFrame]:
    """The tables of a run that never was; its first answer is hostile, its last is missing."""
    random = np.random.default_rng([len(name), len(benchmark)])
    ids = [str(i) for i in range(COUNT)]
    lengths = [*random.integers(1, 6, COUNT - 1), 0]
    log_p = [(-random.exponential(size=n)).tolist() for n in lengths]
    clusters = [sorted(random.integers(0, 1 + i % 4, 3).tolist()) for i in range(COUNT - 1)]
    reason = pd.array([pd.NA] * (COUNT - 1) + ["the model's answer is empty"], dtype="string")
    correct = random.uniform(size=COUNT) < 0.5
    scores = pd.DataFrame(random.exponential(size=(COUNT, len(LABELS))), columns=list(LABELS))
    scores["length"] = np.array(lengths, float)
    scores.iloc[-1] = np.nan
    baseline = ["naive_entropy", "semantic_entropy", "discrete_semantic_entropy", "p_true"]
    told = {"id": ids, "reason": reason}
    return {
        "answers": pd.DataFrame(
            told
            | {
                "answer": [HOSTILE, *(f"answer {i}" for i in ids[1:-1]), ""],
                "answer_ids": [list(range(n)) for n in lengths],
                "answer_log_probabilities": log_p,
                "finished": True,
                "samples": [["a", "a", HOSTILE]] * (COUNT - 1) + [[]],
                "sample_log_probabilities": [[[-1.0], [-2.0, -4.0], []]] * (COUNT - 1) + [[]],
            }
        ),
        "judged": pd.DataFrame(
            told
            | {
                "correct": pd.array([*correct[:-1], pd.NA], dtype="boolean"),
                "to_correct": random.uniform(size=COUNT),
                "to_incorrect": random.uniform(size=COUNT),
            }
        ),
        "baselines": pd.DataFrame(told | {"clusters": [*clusters, []]}).join(scores[baseline]),
        "scores": pd.DataFrame(told).join(scores.drop(columns=baseline)),
    }


@pytest.fixture(autouse=True)
def _records(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Three runs that never were, and no benchmark at hand."""
    cached = (answers_of, percentiles, single_questions.split, single_questions._asked)
    monkeypatch.setattr(single_questions, "tables_of", made_up)
    runs = (ONE, ("m", "triviaqa"), ("other", "triviaqa"))
    monkeypatch.setattr(study, "FINISHED", runs)
    monkeypatch.setattr(files, "DATA", tmp_path)
    monkeypatch.setenv("GNUQ_DATA", str(tmp_path))
    for function in cached:
        function.cache_clear()
    yield
    for function in cached:
        function.cache_clear()


def test_a_percentile_is_the_share_of_less_uncertain_answers_ties_counting_half() -> None:
    table, ranks = answers_of(*ONE), percentiles(*ONE)
    for name, sign in DIRECTION.items():
        values = sign * table[name].dropna()
        for i in ("0", "7", "23"):
            below, equal = (values < values[i]).mean(), (values == values[i]).mean()
            assert ranks.loc[i, name] == pytest.approx(below + equal / 2)
        assert ranks[name].mean() == pytest.approx(0.5)
    assert ranks.loc[str(COUNT - 1)].isna().all()


@pytest.mark.parametrize("by", ["epistemic", "p_true"])
def test_corners_are_confident_or_uncertain_right_or_wrong_most_telling_first(by: str) -> None:
    table, ranks = answers_of(*ONE), percentiles(*ONE)[by]
    for how in ("confident", "uncertain"):
        both = []
        for correct, verdict in ((True, "right"), (False, "wrong")):
            found = chosen(*ONE, f"{how} and {verdict}", by)
            assert (table.loc[found, "correct"] == correct).all()
            assert ranks[found].is_monotonic_increasing if how == "confident" else True
            assert ranks[found].is_monotonic_decreasing if how == "uncertain" else True
            both += found
        extreme = ranks <= CONFIDENT if how == "confident" else ranks >= UNCERTAIN
        assert set(both) == set(ranks.index[extreme])


def test_other_filters_mean_what_they_say() -> None:
    table, ranks = answers_of(*ONE), percentiles(*ONE)
    assert chosen(*ONE, "all questions") == list(table.index)
    assert chosen(*ONE, "undecided or incomplete") == [str(COUNT - 1)]
    disagree = chosen(*ONE, "samples disagree")
    assert table.loc[disagree[0], "semantic_entropy"] == table["semantic_entropy"].max()
    alike = chosen(*ONE, "samples agree, answer wrong")
    assert alike
    assert all(len(set(table.loc[i, "clusters"])) == 1 for i in alike)
    assert not table.loc[alike, "correct"].any()
    odd = chosen(*ONE, "score and samples at odds", "naive_entropy")
    gaps = (ranks["naive_entropy"] - ranks["semantic_entropy"]).abs()
    assert odd[0] == gaps.idxmax()
    assert not chosen(*ONE, "score and samples at odds", "semantic_entropy")


def test_a_view_is_the_record_of_its_question() -> None:
    tables, single = made_up(*ONE), view(*ONE, "3")
    answers, scores = tables["answers"].iloc[3], tables["scores"].iloc[3]
    np.testing.assert_allclose(np.log(single.tokens["probability"]), answers.iloc[4])
    p = single.tokens["probability"]
    np.testing.assert_allclose(single.tokens["aleatoric"], p * (1 - p))
    assert single.scores.loc["epistemic", "value"] == scores["epistemic"]
    assert single.correct == tables["judged"]["correct"][3]
    assert set(single.evidence) == {"to_correct", "to_incorrect"}
    assert single.samples["mean_log_probability"].tolist()[:2] == [-1, -3]
    assert (single.question, single.reasons) == (None, ())
    last = view(*ONE, str(COUNT - 1))
    assert last.correct is None
    assert last.reasons == ("the model's answer is empty",)


def test_the_question_is_quoted_where_its_file_is_at_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    table = pd.DataFrame({"id": ["3"], "question": ["Why?"], "correct": [["So", "No"]]})
    known = replace(benchmarks.named("truthfulqa"), read=lambda: table)
    monkeypatch.setattr(datasets, "available", lambda _: True)
    monkeypatch.setattr(benchmarks, "named", lambda _: known)
    assert (view(*ONE, "3").question, view(*ONE, "3").accepted) == ("Why?", "So")
    assert view(*ONE, "4").question is None


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: view(*ONE, "4000"), "question: m was not asked '4000'"),
        (lambda: chosen(*ONE, "lucky"), "name: 'lucky' is none of"),
        (lambda: chosen(*ONE, "all questions", "size"), "score: 'size' is none of"),
    ],
)
def test_wrong_choices_are_named(call: Any, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        call()


@pytest.fixture
def words(run: Run, monkeypatch: pytest.MonkeyPatch) -> Run:  # noqa: F811
    """A tiny model on twelve questions, as the study's only run."""
    known = replace(benchmarks.named(run.benchmark), name="words")
    monkeypatch.setitem(benchmarks.BENCHMARKS, "words", known)
    monkeypatch.setitem(study.MODELS, "tiny", replace(run, benchmark="words"))
    monkeypatch.setattr(study, "BENCHMARKS", ("words",))
    monkeypatch.setattr(study, "FINISHED", (("tiny", "words"),))
    monkeypatch.setattr(examples, "MODEL", "tiny")
    return study.run("tiny", "words")


def test_shares_sum_to_the_score_of_the_answer(words: Run) -> None:
    """Eq. (10), and each token's own norm is the score of an answer that is that token alone."""
    own = tools(words)
    prompt, loaded = own.prompt(own.questions["q3"].question), own.loaded
    ids = loaded.tokenizer("hah", add_special_tokens=False)["input_ids"]
    frame = token_shares(words, "q3", np.array(ids))
    whole = score(loaded.model, loaded.tokenizer, [prompt], [ids])
    assert frame["share"].sum() == pytest.approx(whole.epistemic[0])
    assert "".join(frame["token"]) == "hah"
    alone = score(
        loaded.model,
        loaded.tokenizer,
        [(*prompt, *ids[:t]) for t in range(3)],
        [ids[t : t + 1] for t in range(3)],
    )
    np.testing.assert_allclose(frame["squared_norm"], alone.epistemic)
    np.testing.assert_allclose(frame["aleatoric"], alone.aleatoric)


@pytest.mark.bad_input
def test_what_cannot_be_split_is_named(words: Run) -> None:
    with pytest.raises(ValueError, match="has none with the id 'q99'"):
        token_shares(words, "q99", [1])
    with pytest.raises(ValueError, match="'q3' has no token"):
        token_shares(words, "q3", [])


def evaluated_words() -> pd.DataFrame:
    rows = pd.DataFrame({"id": [f"q{i}" for i in range(12)], "epistemic": np.arange(12.0)})
    rows["correct"] = [True, False] * 6
    rows["semantic_entropy"] = [0, 1, 2, 3, 4, 11, 5, 6, 7, 8, 9, 10]
    return rows


def test_the_rule_takes_the_extremes() -> None:
    found = examples.choose(evaluated_words().set_index("id"))
    assert found == {
        "confident and right": "q0",
        "confident and wrong": "q1",
        "uncertain and right": "q10",
        "uncertain and wrong": "q11",
        "score and samples at odds": "q5",
    }
    with pytest.raises(ValueError, match="fewer than 3"):
        examples.choose(evaluated_words().set_index("id").head(4))


def test_the_record_quotes_ended_answers_and_replays(words: Run) -> None:
    rows = evaluated_words()
    answers = rows[["id"]].assign(
        answer_ids=[[97 + i] * (1 + i % 3) for i in range(12)],
        finished=[i != 10 for i in range(12)],
    )
    others = rows.assign(**dict.fromkeys({*BASELINES, *SCORES} - set(rows), 1.0))
    tables = {"answers": answers} | dict.fromkeys([*STEPS][1:], others)
    for name, table in tables.items():
        told = study.record("tiny", "words", name)
        artefacts.save("records", told, table, origin=ORIGIN, seconds=1.0)
    table = examples.example_tokens()
    artefacts.save("records", quoted_answers.EXAMPLES, table, origin=ORIGIN, seconds=1.0)
    evaluated = joined(words, tables)[0].set_index("id")
    assert "q10" in evaluated.index
    quoted = table.drop_duplicates("kind").set_index("kind")
    assert quoted["id"].to_dict() == examples.choose(evaluated.drop(index="q10"))
    asked = tools(words).questions
    assert quoted["question"].tolist() == [asked[i].question for i in quoted["id"]]
    assert quoted["accepted"].tolist() == [asked[i].correct[0] for i in quoted["id"]]
    lengths = answers.set_index("id")["answer_ids"].map(len)
    assert table["id"].value_counts().to_dict() == lengths[quoted["id"]].to_dict()
    saved, new = examples.replayed()
    assert 0 < len(new) < len(table)
    assert largest_difference(saved, new) == 0


def test_the_stage_is_there_once_both_benchmarks_are(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not examples.finished()
    pairs = tuple((examples.MODEL, name) for name in study.BENCHMARKS)
    monkeypatch.setattr(study, "FINISHED", pairs)
    assert examples.finished()
    told = examples.described()
    assert set(told["inputs"]) == {f"records/qa/{m}/{b}/{s}" for m, b in pairs for s in STEPS}
    assert all(benchmarks.named(name).revision in told["dataset"] for name in study.BENCHMARKS)


@pytest.fixture
def quoted(monkeypatch: pytest.MonkeyPatch) -> quoted_answers.Quoted:
    """Two answers of each benchmark, as their record would have them."""
    rows = []
    for kind, i in (("confident and right", "0"), ("uncertain and wrong", "5")):
        for benchmark in study.BENCHMARKS:
            row = {"kind": kind, "model": "m", "benchmark": benchmark, "id": i}
            row |= {"question": f"{HOSTILE}?", "accepted": "So", "aleatoric": 0.2}
            tokens = ((" a", 3.0, 0.5), ("\n", -1.0, 0.25), ("<b>", 2.0, 1.0))
            for text, share, p in tokens:
                told = {"token": text, "probability": p, "squared_norm": 12345.6, "share": share}
                rows.append(row | told)
    origin: dict[str, Any] = {"origin": ORIGIN, "seconds": 1.0}
    artefacts.save("records", quoted_answers.EXAMPLES, pd.DataFrame(rows), **origin)
    return quoted_answers.quoted()


class Markup(HTMLParser):
    """Elements of a page; fails where they do not close in order."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(markup)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open.append(tag)
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_works_without_script_and_asks_nobody(quoted: quoted_answers.Quoted) -> None:
    page = question_cards.page(quoted)
    found = Markup(page)
    tags = [tag for tag, _ in found.seen]
    assert not {"script", "img", "link", "button", "b>"} & set(tags)
    assert "//" not in page
    details = [told for tag, told in found.seen if tag == "details"]
    assert len(details) == tags.count("summary") == 4
    assert len({told["name"] for told in details}) == 1  # the browser closes the others
    assert ["open" in told for told in details] == [True, False, False, False]
    assert found.text.count(HOSTILE) >= 4
    shares = [told["style"] for tag, told in found.seen if tag == "li" and "style" in told]
    assert shares[:3] == ["--share: 100%", "--share: 0%", "--share: 67%"]
    for text in ("75%", "−25%", "12300", "⏎", "TriviaQA", "First accepted answer: So"):
        assert text in found.text


def test_the_finding_names_the_extremes(quoted: quoted_answers.Quoted) -> None:
    ranks = {
        (name, i): percentiles("m", name).loc[i, "epistemic"]
        for name in study.BENCHMARKS
        for i in ("0", "5")
    }
    right = {key for key in ranks if answers_of("m", key[0])["correct"][key[1]]}
    low, high = quoted_answers.extremes(quoted)
    assert low == min(ranks[key] for key in set(ranks) - right)
    assert high == max(ranks[key] for key in right)
    told = question_cards.finding(quoted)
    assert f"percentile {100 * low:.0f} of uncertainty" in told
    assert ("Neither end" in told) == (low < high)


def test_a_card_says_what_is_missing() -> None:
    text = Markup(question_cards.card(view(*ONE, str(COUNT - 1)))).text
    for said in ("set GNUQ_DATA", "(none)", "? undecided", "the model's answer is empty", "–"):
        assert said in text
    assert "Tokens" not in text
    text = Markup(question_cards.card(view(*ONE, "2"))).text
    assert "its probability p." in text
    assert "cosine with the nearest correct reference 0." in text


def test_samples_stand_by_cluster() -> None:
    single = replace(
        view(*ONE, "2"),
        samples=pd.DataFrame({"text": ["a", "b", "b", "c", ""], "cluster": [0, 1, 1, 1, -1]}),
    )
    text = Markup(question_cards.card(single)).text
    assert "5 samples in 2 clusters of meaning3: b (×2) · c1: a1 in no cluster" in text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (4.0, "4"),
        (-1.6998, "−1.70"),
        (0.0123456, "0.0123"),
        (12345.6, "12300"),
        (99.96, "100"),
        (3.2e-7, "3.20e−07"),
        (np.nan, "–"),
    ],
)
def test_numbers_keep_three_digits(value: float, text: str) -> None:
    assert number(value) == text


def shown(panel: Questions) -> str:
    (output,) = panel.card.outputs
    return output["data"]["text/html"]


def test_the_explorer_steps_through_what_the_filter_lets_through() -> None:
    panel = Questions()
    panel.controls["filter"].value = "confident and wrong"
    found = chosen(*ONE, "confident and wrong")
    seen = []
    for _ in found:
        seen.append(panel.single.id)
        assert f"TruthfulQA {panel.single.id})" in shown(panel)
        panel.after.click()
    assert seen == found
    assert panel.single.id == found[0]
    panel.before.click()
    assert panel.single.id == found[-1]
    assert f"{len(found)} of {len(found)}" in panel.status.value


def test_a_choice_is_kept_where_it_is_offered() -> None:
    panel = Questions()
    panel.controls["question"].value = "7"
    panel.controls["benchmark"].value = "triviaqa"
    assert (panel.single.benchmark, panel.single.id) == ("triviaqa", "7")
    panel.controls["model"].value = "other"
    assert (panel.single.model, panel.single.id) == ("other", "7")
    panel.controls["score"].value = "semantic_entropy"
    panel.controls["filter"].value = "score and samples at odds"
    assert panel.single is None
    assert panel.card.outputs == ()
    assert panel.after.disabled
    assert panel.split.disabled
    assert "No question" in panel.status.value
    panel.controls["filter"].value = "all questions"
    assert panel.single.id == "0"
    assert not panel.after.disabled


def test_splitting_shows_shares_and_a_failure_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: str) -> None:
        raise ModelError("m: cannot be loaded")

    tokens = pd.DataFrame(
        {"token": ["a"], "probability": [0.5], "squared_norm": [2.0], "share": [2.0]}
    )
    panel = Questions()
    monkeypatch.setattr(single_questions, "split", fail)
    panel.split.click()
    assert "cannot be loaded" in panel.status.value
    assert "its share of" not in shown(panel)
    assert not panel.split.disabled
    monkeypatch.setattr(single_questions, "split", lambda *_: tokens)
    panel.split.click()
    assert "100%" in shown(panel)
    panel.controls["question"].value = str(COUNT - 1)
    assert panel.split.disabled  # no token


@pytest.mark.bad_input
def test_an_explorer_of_no_run_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study, "FINISHED", ())
    with pytest.raises(ValueError, match="FINISHED"):
        Questions()


@pytest.mark.usefixtures("quoted")
@pytest.mark.parametrize("book", [True, False])
def test_the_website_gets_the_quotations_and_a_kernel_the_menus(
    book: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    monkeypatch.setenv("GNUQ_BOOK", str(int(book)))
    monkeypatch.setattr("IPython.display.display", lambda value, **_: seen.append(value))
    explorer.questions()
    (one,) = seen
    if book:
        assert "<details" in one["text/html"]
        assert "4 answers of m" in one["text/plain"]
    else:
        assert len(one.children) == 3
    assert set(FILTERS) == {*examples.CORNERS, examples.AT_ODDS} | {
        "all questions", "samples disagree", "samples agree, answer wrong",
        "undecided or incomplete",
    }  # fmt: skip
