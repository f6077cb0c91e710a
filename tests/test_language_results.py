"""Tables and figures of the language-model records say what the records hold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from gnuq import artefacts
from gnuq.figures import precisions, sequences
from gnuq.results import language


def test_sequences_hold_the_algebra_of_equation_10() -> None:
    """‖∇p̄‖² = average / T + cross terms; a one-token answer has none."""
    found = language.sequences()
    diagonal = found["token_average"] / found["length"]
    np.testing.assert_allclose(found["diagonal"] * found["epistemic"], diagonal, rtol=1e-6)
    single = found[found["length"] == 1]
    assert len(single) > 0
    np.testing.assert_allclose(single["cross"], 0, atol=1e-4)


def test_the_records_agree_with_each_other() -> None:
    """The same answers in four records: scores, tokens, layers, float32 of the precisions."""
    scores = language.answers().set_index("id")["epistemic"]
    found = language.sequences()["epistemic"]
    np.testing.assert_allclose(found, scores.loc[found.index], rtol=1e-3)
    precise = language.precisions().query("precision == 'float32'").set_index("id")
    np.testing.assert_allclose(precise["total"], scores.loc[precise.index], rtol=1e-3)
    assert (precise["share"] == 1).all()  # unquantised: .grad holds everything
    for question in (0, 5):
        matrix = language.products(question)
        np.testing.assert_allclose(matrix, matrix.T)
        assert matrix.sum() / len(matrix) ** 2 == pytest.approx(scores[question], rel=1e-3)


def test_cosines_are_cosines() -> None:
    table = language.cosines()
    assert table["cosine"].abs().max() <= 1 + 1e-6
    assert (table["distance"] == table["s"] - table["t"]).all()
    assert (table["t"] < table["s"]).all()


def test_shares_sum_to_one() -> None:
    assert language.layers()["share"].sum() == pytest.approx(1)
    assert language.kinds("nf4")["share"].sum() == pytest.approx(1)
    assert set(language.kinds("nf4").query("held")["kind"]) >= {"embed_tokens", "norm"}


def test_grad_holds_a_part_of_quantised_models_only() -> None:
    table = language.precision_summary()[".grad holds, median"]
    assert (table[["float32", "bfloat16", "float16"]] == 1).all()
    assert (table[["nf4", "fp4", "int8"]] < 0.9).all()


def test_the_sums_are_scored_and_judged() -> None:
    table = language.sums()
    assert 0.2 < table["correct"].mean() < 0.8
    areas = language.sums_auroc(draws=50)
    assert (areas["2.5 %"] <= areas["AUROC"]).all()
    assert (areas["AUROC"] <= areas["97.5 %"]).all()
    curve = language.reliability("epistemic", "aleatoric")
    assert curve["count"].sum() == len(table)


def test_the_reference_of_the_default_model_is_found(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gnuq.language_models import load
    from gnuq.scoring import reference

    monkeypatch.setenv("GNUQ_CACHE", str(cache))
    found = reference.find(load())
    assert found is not None
    assert "TruthfulQA questions" in found.of
    assert len(found.calibration.reference["epistemic"]) == len(language.answers())
    assert reference.find(load(quantisation="nf4")) is None


def test_records_hold_no_text() -> None:
    """Questions are other people's; a record names them by number."""
    for name in artefacts.names():
        if name.startswith(("records/scores", "records/quantisation", "records/sequences")):
            kind, _, rest = name.partition("/")
            frame = artefacts.load("records", rest).frame
            assert not {"question", "prompt", "text", "token"} & set(frame), (kind, rest)


def tokens() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "token": ["Q", " a", " b"],
            "part": ["prompt", "answer", "answer"],
            "probability": [np.nan, 0.5, 0.9],
            "share": [0.0, 3.0, 1.0],
        }
    )


def test_figures_show_what_they_are_given() -> None:
    bars, dots = sequences.token_bars(tokens()).data
    assert list(bars.y) == [0.75, 0.25]
    assert list(dots.y) == [0.5, 0.9]
    heat = sequences.product_map(np.array([[4.0, -1.0], [-1.0, 2.0]]), ["a", "b"]).data[0]
    np.testing.assert_allclose(heat.z, [[1.0, -0.25], [-0.25, 0.5]])
    found = language.sequences()
    assert len(sequences.norms_by_length(found).data[1].x) == len(found)
    assert list(sequences.cross_shares(found).data[0].y) == list(found["cross"])
    shares = language.layers()
    blocks, outside = sequences.layer_map(shares).data
    assert np.nansum(blocks.z) + sum(outside.y) == pytest.approx(1)


def test_figures_of_precisions_show_what_they_are_given() -> None:
    table = language.precisions()
    figure = precisions.against_float32(table, ("nf4", "int8"))
    for i, button in enumerate(figure.layout.updatemenus[0].buttons):
        assert button.args[0]["visible"] == [i == 0, i == 1, True]
    boxes = precisions.held_shares(table, ("nf4", "fp4")).data
    assert [box.name for box in boxes] == ["nf4", "fp4"]
    kinds = language.kinds("nf4")
    drawn = sum(sum(bar.y) for bar in precisions.kind_bars(kinds).data)
    assert drawn == pytest.approx(1)
    curve = pd.DataFrame(
        {"predicted": [0.2], "observed": [0.3], "count": [9], "low": [0.1], "high": [0.6]}
    )
    assert precisions.reliability(curve).data[1].error_y.array[0] == pytest.approx(0.3)
