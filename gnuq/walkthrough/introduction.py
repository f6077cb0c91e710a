"""What the chapter on §1 shows: more data shrink the epistemic part, not ‖g‖²."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch

from gnuq.estimators import epistemic, label_wise_decomposition
from gnuq.networks import Architecture, Prior, fit_map
from gnuq.posteriors.settings import HMC
from gnuq.problems import make_problem

SIZES = (25, 100, 400, 1600)
#: True slope 1 / NOISE = 1: well inside the prior N(0, 1), so that the prior soon matters little.
NOISE = 1.0
EXTENT = 2.5


def logistic_curves(size: int, *, points: int = 61, seed: int = 0) -> pd.DataFrame:
    """Both uncertainties of logistic regression along the axis x₂ = 0, from posterior draws.

    Args:
        size: N, the number of training points.
        points: positions along the axis.
        seed: seed of the data and of the sampler.

    Returns:
        One row per position: size, seed, x, epistemic = Var[p], aleatoric = E[p(1 − p)] and
        gradient_norm = ‖g‖² at the mode (in units of one over a squared parameter).
    """
    from gnuq.posteriors import hmc  # PyMC and JAX: seconds to import

    problem = make_problem("linear", points=size, noise=NOISE, seed=seed)
    architecture = Architecture(2, (), 1)
    draws = hmc.sample_posterior(architecture, problem, Prior(), HMC(tune=300, seed=seed))
    x = torch.linspace(-EXTENT, EXTENT, points, dtype=torch.float64)
    line = torch.stack([x, torch.zeros_like(x)], 1)
    predictions = hmc.posterior_predictions(draws, architecture, problem, line)
    p = torch.from_numpy(predictions.astype(np.float64)).flatten(0, 1)[..., 0]
    parts = label_wise_decomposition(p)
    network = fit_map(architecture, problem, Prior()).network
    columns = {
        "x": x,
        "epistemic": parts.epistemic,
        "aleatoric": parts.aleatoric,
        "gradient_norm": epistemic(network, line, link="sigmoid").total,
    }
    frame = pd.DataFrame({name: values.numpy() for name, values in columns.items()})
    return frame.assign(size=size, seed=seed)


def more_data(*, sizes: Sequence[int] = SIZES, seeds: Sequence[int] = (0, 1)) -> pd.DataFrame:
    """`logistic_curves` for several numbers of training points and data seeds, stacked."""
    return pd.concat(
        [logistic_curves(size, seed=seed) for size in sizes for seed in seeds], ignore_index=True
    )


def rates(curves: pd.DataFrame) -> pd.DataFrame:
    """How each quantity, averaged along the line, changes with N.

    Args:
        curves: what `more_data` returns.

    Returns:
        One row per size and seed: epistemic, aleatoric and gradient_norm (means along the line),
        factor = the c that fits Var[p] ≈ c‖g‖² best (least squares), scaled_factor = N c, and
        shape = the Pearson correlation of Var[p] and ‖g‖² along the line.
    """
    rows = []
    for (size, seed), part in curves.groupby(["size", "seed"], sort=False):
        variance, norm = part["epistemic"].to_numpy(), part["gradient_norm"].to_numpy()
        factor = float(norm @ variance / (norm @ norm))
        rows.append(
            {
                "size": size,
                "seed": seed,
                **part[["epistemic", "aleatoric", "gradient_norm"]].mean(),
                "factor": factor,
                "scaled_factor": int(part["size"].iloc[0]) * factor,
                "shape": float(np.corrcoef(variance, norm)[0, 1]),
            }
        )
    return pd.DataFrame(rows)


def readable(found: pd.DataFrame) -> pd.DataFrame:
    """`rates` as a table: means over the data seeds, one row per number of training points."""
    heads = {
        "epistemic": "Var[p], mean",
        "aleatoric": "E[p(1 − p)], mean",
        "gradient_norm": "‖g‖², mean",
        "factor": "c = Var[p] / ‖g‖²",
        "scaled_factor": "N c",
        "shape": "correlation of shapes",
    }
    table = found.groupby("size")[list(heads)].mean().rename(columns=heads)
    return table.rename_axis("N")
