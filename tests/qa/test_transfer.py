"""Leaving one model out: what transfers by construction, and what cannot."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from gnuq.qa.discrimination import auroc
from gnuq.qa.transfer import VARIANTS, leave_one_model_out, over_models
from tests.qa.joined import joined


def models(names: str = "abc") -> pd.DataFrame:
    """Several models with their own answers to a benchmark."""
    parts = [joined(300, model=m, seed=i, signal=2.0) for i, m in enumerate(names)]
    return pd.concat(parts, ignore_index=True)


def rescaled(frame: pd.DataFrame, model: str, c: float) -> pd.DataFrame:
    """The same network written with θ/c: ‖g‖² c², ‖g‖²/‖θ‖² c⁴, ‖g‖² ‖θ‖² unchanged."""
    factor = np.where(frame["model"] == model, c, 1.0)
    return frame.assign(
        epistemic=frame["epistemic"] * factor**2, relative=frame["relative"] * factor**4
    )


def wide(frame: pd.DataFrame) -> pd.DataFrame:
    """Held-out models in rows, variants in columns."""
    return leave_one_model_out(frame).pivot_table("auroc", "held_out", "variant")


def test_copies_of_a_model_transfer_as_well_as_its_scores_rank() -> None:
    one = joined(300, signal=2.0)
    found = wide(pd.concat([one.assign(model=m) for m in "abc"]))
    expected = auroc(one["correct"].to_numpy(), -one["epistemic"].to_numpy())
    np.testing.assert_allclose(
        found[["Raw", "Normalised", "Product", "Log raw", "Ranks"]], expected
    )
    assert found.nunique().eq(1).all()


def test_a_model_of_the_opposite_direction_comes_below_one_half() -> None:
    one = joined(300, signal=2.0)
    inverted = one.assign(model="z", correct=~one["correct"])
    found = wide(pd.concat([one, one.assign(model="n"), inverted]))
    assert found.loc["z", "Raw"] == pytest.approx(1 - found.loc["m", "Raw"])
    assert found.loc["z", "Raw"] < 0.4


def test_of_labels_without_relation_nothing_transfers() -> None:
    frame = models()
    frame = frame.assign(correct=np.random.default_rng(5).permutation(frame["correct"]))
    error = np.sqrt(301 / (12 * 150 * 150))
    np.testing.assert_allclose(wide(frame), 0.5, atol=4 * error)


def test_one_feature_passes_on_a_direction_and_no_more() -> None:
    found = wide(rescaled(models(), "b", 30.0))
    for name in ("Normalised", "Product", "Log raw", "Log normalised", "Log product", "Ranks"):
        same = np.isclose(found[name], found["Raw"])
        flipped = np.isclose(found[name], 1 - found["Raw"])
        assert (same | flipped).all()


def test_rewriting_a_network_changes_the_raw_and_normalised_fits_but_not_the_product() -> None:
    before, after = wide(models()), wide(rescaled(models(), "b", 30.0))
    for name in ("Product & alea.", "Ranks & alea. ranks", "Aleatoric"):
        np.testing.assert_allclose(after[name], before[name], atol=1e-12)
    for name in ("Raw & alea.", "Normalised & alea.", "Log raw & alea."):
        assert not np.allclose(after[name], before[name], atol=1e-3)


def test_each_row_counts_and_each_model_is_held_out_once() -> None:
    frame = pd.concat([models(), models("ab").assign(benchmark="other")])
    found = leave_one_model_out(frame)
    assert len(found) == (3 + 2) * len(VARIANTS)
    row = found[(found["benchmark"] == "other") & (found["held_out"] == "a")].iloc[0]
    assert (row["n"], row["trained"]) == (300, 300)
    means = over_models(found)
    part = found[(found["benchmark"] == "b") & (found["variant"] == "Raw")]["auroc"]
    expected = means[(means["benchmark"] == "b") & (means["variant"] == "Raw")].iloc[0]
    assert expected["mean"] == pytest.approx(part.mean())
    assert expected["deviation"] == pytest.approx(part.std())
    assert expected["models"] == 3


def test_one_kind_of_held_out_answers_gives_nan() -> None:
    frame = models("ab")
    frame = frame.assign(correct=frame["correct"] | (frame["model"] == "a"))
    found = leave_one_model_out(frame)
    assert found.loc[found["held_out"] == "a", "auroc"].isna().all()
    assert (over_models(found)["models"] == 0).all()  # nor can anything be learnt from a


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match="b has answers of one model only; leaving one out takes"):
        leave_one_model_out(joined(20))
    with pytest.raises(ValueError, match="no column 'scale_free'"):
        leave_one_model_out(models().drop(columns="scale_free"))
    frame = models()
    frame.loc[0, "epistemic"] = np.nan
    with pytest.raises(ValueError, match="'rank_epistemic' is not finite in 1 rows"):
        leave_one_model_out(frame, {"Ranks": ("rank_epistemic",)})
