"""What chapter 3 says about its small networks is true."""

from __future__ import annotations

import pytest
import torch

from gnuq.walkthrough import gradients

pytest.importorskip("pymc")


def test_the_tangent_is_better_than_the_identity() -> None:
    line = gradients.logistic_line(points=41)
    assert line.delta_error < 0.06
    assert line.delta_error < line.identity_error < 0.3
    curves = line.curves.set_index("x")
    assert (abs(curves.idxmax()) < 0.3).all()  # all three peak at the boundary
    half = curves / curves.max() > 0.5
    assert half["c ‖g‖², Eq. (4)"].sum() < half["Var[p], HMC"].sum()  # and the norm is narrower
    spread = line.standard_deviations
    assert 1.5 < spread["w₁"] / spread["b"] < 2.5


def test_the_logistic_norm_is_its_closed_form() -> None:
    line = gradients.logistic_line(points=11)
    w1, _, b = line.posterior["mode"]
    x = torch.tensor(line.curves["x"].to_numpy())
    p = torch.sigmoid(w1 * x + b)
    expected = line.constant * (p * (1 - p)) ** 2 * (1 + x**2)
    found = torch.tensor(line.curves["c ‖g‖², Eq. (4)"].to_numpy())
    torch.testing.assert_close(found, expected)


def test_nine_parameters_agree_with_the_loop() -> None:
    tiny = gradients.nine_parameters()
    assert tiny.gradients.shape == (len(gradients.VISITED), 9)
    assert tiny.comparison["largest relative difference"].max() < 1e-11
    norms = (tiny.gradients**2).sum(axis=1)
    assert norms["(0, 1)"] > 10 * norms["(0.25, 1)"] > 100 * norms["(1, 1)"]
