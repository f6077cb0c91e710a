"""What the chapter on §1 says about more data is true."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from gnuq.figures import background as figures
from gnuq.walkthrough import introduction

pytest.importorskip("pymc")


@pytest.fixture(scope="module")
def curves() -> pd.DataFrame:
    return introduction.more_data(sizes=(100, 1600), seeds=(0,))


@pytest.fixture(scope="module")
def found(curves: pd.DataFrame) -> pd.DataFrame:
    return introduction.rates(curves)


def test_more_data_shrink_the_epistemic_part_only(found: pd.DataFrame) -> None:
    few, many = found.iloc[0], found.iloc[1]
    assert 12 < few["epistemic"] / many["epistemic"] < 22  # 16 times the data
    assert few["aleatoric"] == pytest.approx(many["aleatoric"], rel=0.1)


def test_the_norm_does_not_fall_and_its_factor_falls_like_one_over_n(found: pd.DataFrame) -> None:
    few, many = found.iloc[0], found.iloc[1]
    assert few["gradient_norm"] / many["gradient_norm"] < 1.5
    assert few["scaled_factor"] == pytest.approx(many["scaled_factor"], rel=0.2)
    assert found["shape"].min() > 0.9


def test_curves_lie_within_their_bounds(curves: pd.DataFrame) -> None:
    total = curves["aleatoric"] + curves["epistemic"]  # p̄(1 − p̄)
    assert ((total > 0) & (total <= 0.25)).all()
    assert (curves["gradient_norm"] <= (1 + curves["x"] ** 2) / 16 + 1e-12).all()


def test_rates_of_proportional_curves_are_exact() -> None:
    x = np.linspace(1, 2, 5)
    parts = [
        pd.DataFrame(
            {"epistemic": 3 * x / size, "aleatoric": x, "gradient_norm": x, "size": size, "seed": 0}
        )
        for size in (10, 20)
    ]
    found = introduction.rates(pd.concat(parts))
    np.testing.assert_allclose(found["scaled_factor"], 3)
    np.testing.assert_allclose(found["shape"], 1)
    assert list(introduction.readable(found).index) == [10, 20]


def test_figure_is_relative_to_the_first_size() -> None:
    rows = [{"size": n, "seed": s, "epistemic": (1 + s) / n} for n in (10, 40) for s in (0, 1)]
    figure = figures.rates(pd.DataFrame(rows), {"epistemic": "Var[p]"})
    line, curve = figure.data
    np.testing.assert_allclose(curve.y, line.y)
    np.testing.assert_allclose(curve.error_y.array, [1 / 3, 1 / 12])
