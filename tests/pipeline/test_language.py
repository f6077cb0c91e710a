"""Records of a language model: the right sums, parts that resume, replays of a few questions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest

import gnuq
from gnuq import artefacts
from gnuq.artefacts import files
from gnuq.language_models import Loaded
from gnuq.pipeline import language
from gnuq.pipeline.stages import LanguageStage, stages
from gnuq.qa import arithmetic
from tests import tiny

IDS = [0, 1, 2, 3]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A tiny model and four answers in the place of the default model and its record."""
    model = tiny.model("llama-tied")
    loaded = Loaded(model, tiny.tokenizer(), "tiny", None, None, "float64", None)
    monkeypatch.setattr(language, "loaded", lambda precision="float32": loaded)
    monkeypatch.setattr(language, "prompts", lambda ids: [tiny.EXAMPLES[i].prompt for i in ids])
    monkeypatch.setattr(language, "answers", lambda ids: [tiny.EXAMPLES[i].answer for i in ids])
    given = [e.prompt for e in tiny.EXAMPLES], [e.answer for e in tiny.EXAMPLES]
    return gnuq.score(model, loaded.tokenizer, *given)


@pytest.mark.usefixtures("small")
def test_answers_are_the_models_own_and_scored() -> None:
    frame = language.answered(IDS)
    assert list(frame["id"]) == IDS
    assert (frame["length"] == [len(ids) for ids in frame["answer"]]).all()
    example = tiny.EXAMPLES[2]
    again = gnuq.score(
        language.loaded().model, tiny.tokenizer(), [example.prompt], [frame["answer"][2]]
    )
    assert again.epistemic[0] == pytest.approx(frame["epistemic"][2], rel=1e-6)


def test_tokens_and_layers_sum_to_the_score(small: gnuq.Scores) -> None:
    tokens, layers = language.by_token(IDS), language.by_layer(IDS)
    for name in ("share", "position_share"):
        np.testing.assert_allclose(tokens.groupby("id")[name].sum(), small.epistemic, rtol=1e-6)
    np.testing.assert_allclose(layers.groupby("id")["epistemic"].sum(), small.epistemic)
    assert {"layer 0", "layer 1", "norm", "embed_tokens"} == set(layers["layer"])


def test_products_hold_the_double_sum(small: gnuq.Scores) -> None:
    table = language.products(IDS)
    sums = table.groupby("id")["inner_product"].sum() / small.length**2
    np.testing.assert_allclose(sums, small.epistemic, rtol=1e-6)


def test_every_precision_is_split_by_what_grad_holds(small: gnuq.Scores) -> None:
    table = language.quantised(IDS)
    assert set(table["precision"]) == set(language.PRECISIONS)
    assert table["held"].all()  # the stand-in is not quantised
    sums = table.groupby(["precision", "id"])["epistemic"].sum()
    np.testing.assert_allclose(sums.loc["nf4"], small.epistemic)


@pytest.mark.usefixtures("small")
def test_other_objectives() -> None:
    table = language.by_objective(IDS)
    assert list(table) == ["id", "mean_log_probability", "joint_probability"]
    assert (table.drop(columns="id") > 0).all(axis=None)


def test_sums_are_judged_by_their_last_number() -> None:
    one = arithmetic.Sum(7, "*", 6)
    assert one.question == "What is 7 times 6?"
    assert one.correct(" 7 × 6 = 42.")
    assert not one.correct(" 42 or 43")
    assert not one.correct(" forty-two")
    drawn = [arithmetic.draw(i) for i in range(300)]
    assert all(0 <= s.result <= 144 for s in drawn)
    assert drawn == [arithmetic.draw(i) for i in range(300)]


def test_a_run_that_was_stopped_goes_on(monkeypatch: Any, tmp_path: Any) -> None:
    calls: list[Sequence[int]] = []

    def rows(ids: Sequence[int]) -> pd.DataFrame:
        calls.append(ids)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return pd.DataFrame({"id": list(ids), "value": np.array(ids) / 3})

    monkeypatch.setattr(files, "DATA", tmp_path)
    monkeypatch.setitem(language.WORKS, "trial", language.Work(rows, 60))
    origin = artefacts.Origin(code="abc")
    with pytest.raises(KeyboardInterrupt):
        language.run("trial", origin)
    frame = language.run("trial", origin)
    assert [ids[0] for ids in calls] == [0, 25, 25, 50]
    assert list(frame["id"]) == list(range(60))
    assert frame["value"][1] == 0.333333  # six digits, so that a replay can be compared
    language.discard("trial", origin)
    assert not list(tmp_path.rglob("*.parquet"))


def test_every_record_names_its_model_and_questions() -> None:
    for name, work in language.WORKS.items():
        stage = stages()[name]
        assert isinstance(stage, LanguageStage)
        origin = artefacts.Origin(code="x", model=stage.model, dataset=stage.dataset).as_json()
        assert "sha256" in origin["model"]
        assert (origin["dataset"] is None) == (work.dataset is None)
