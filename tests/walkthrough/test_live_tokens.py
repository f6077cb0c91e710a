"""The token figure shows the records, and what it shows adds up."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from gnuq.language_models import load
from gnuq.results import language
from gnuq.walkthrough import live_tokens

Answer = dict[str, Any]


@pytest.fixture(scope="module")
def options() -> dict[str, Any]:
    return live_tokens.token_options(load().tokenizer)


@pytest.fixture(scope="module")
def answers(options: dict[str, Any]) -> dict[int, Answer]:
    return {answer["question"]: answer for answer in options["answers"]}


def test_tokens_and_weights_split_the_same_norm(answers: dict[int, Answer]) -> None:
    """Σ_t share = Σ_weights = ‖∇p̄‖², which a third record holds."""
    recorded = language.answers().set_index("id")["epistemic"]
    for question, answer in answers.items():
        weights = sum(map(sum, answer["blocks"].values())) + sum(answer["outside"].values())
        assert sum(answer["share"]) == pytest.approx(recorded[question], rel=2e-3)
        assert weights == pytest.approx(recorded[question], rel=2e-3)


def test_a_row_of_products_is_its_token_s_share(answers: dict[int, Answer]) -> None:
    """Eq. (10) row by row: Σ_s ⟨∇p_t, ∇p_s⟩ / T² = share_t, and the diagonal is ‖∇p_t‖²."""
    recorded = {i: a for i, a in answers.items() if a["products"] is not None}
    assert len(recorded) >= 10
    for answer in recorded.values():
        matrix = np.array(answer["products"])
        scale = np.abs(matrix).max()
        np.testing.assert_allclose(np.diag(matrix), answer["squared_norm"], rtol=2e-3)
        rows = matrix.sum(1) / len(matrix) ** 2
        np.testing.assert_allclose(rows, answer["share"], atol=2e-3 * scale / len(matrix))


def test_the_rule_finds_both_ends_of_the_cross_terms(answers: dict[int, Answer]) -> None:
    cross = language.sequences()["cross"]
    shown = cross[list(answers)]
    assert shown.max() == cross.max()
    assert shown.min() == cross.min()
    assert len(answers) == len(set(live_tokens.chosen())) == 12


def test_the_texts_are_the_answer_s_and_no_question_s(answers: dict[int, Answer]) -> None:
    tokenizer = load().tokenizer
    ids = language.answers().set_index("id")["answer"]
    for question, answer in answers.items():
        assert "".join(answer["tokens"]) == tokenizer.decode([int(i) for i in ids[question]])
        lengths = {len(answer[name]) for name in ("tokens", "probability", "aleatoric", "share")}
        assert lengths == {len(ids[question])}
    assert answers[0]["tokens"][:3] == [" They", " turn", " into"]


def test_aleatoric_is_the_bernoulli_variance(answers: dict[int, Answer]) -> None:
    for answer in answers.values():
        p = np.array(answer["probability"])
        np.testing.assert_allclose(answer["aleatoric"], p * (1 - p), rtol=2e-3, atol=1e-4)


def test_the_blocks_are_in_order(answers: dict[int, Answer]) -> None:
    """Block 10 stands behind block 9, not behind block 1."""
    from gnuq import artefacts

    record = artefacts.load("records", "sequences/smollm2-135m-layers").frame
    own = record[record["id"] == 0].set_index(["layer", "kind"])["epistemic"]
    assert set(answers[0]["outside"]) == {"embed_tokens", "norm"}
    assert len(answers[0]["blocks"]) == 9
    for kind, values in answers[0]["blocks"].items():
        assert len(values) == 30
        for block in (1, 2, 10, 29):
            assert values[block] == pytest.approx(own[f"layer {block}", kind], rel=1e-3)


def test_the_options_are_small_json(options: dict[str, Any]) -> None:
    text = json.dumps(options, allow_nan=False)
    assert len(text) < 60_000
    assert json.loads(text) == options
