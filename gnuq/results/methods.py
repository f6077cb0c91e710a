"""Every estimate of the tables, evaluated at the mode, on the grid of a record."""

from __future__ import annotations

import numpy as np
import pandas as pd
from jaxtyping import Float
from torch import Tensor

from gnuq.estimators import aleatoric, epistemic, predictions_from
from gnuq.networks import MapFit, fit_map
from gnuq.posteriors import laplace, predictive
from gnuq.posteriors.methods import LINKS
from gnuq.protocol import Experiment
from gnuq.results.references import reference


def by_class(values: Float[Tensor, " grid *classes"]) -> Float[np.ndarray, " rows"]:
    """A value per grid point and class as one column, class by class: the order of a record."""
    return values.detach().reshape(len(values), -1).mT.reshape(-1).numpy()


def point_estimates(experiment: Experiment, fit: MapFit) -> pd.DataFrame:
    """What a mode and its curvature say on the grid.

    Args:
        experiment: problem, prior and grid.
        fit: the network at the mode.

    Returns:
        One row per class and grid point, class by class: gradient_norm = ‖g‖² and
        laplace_epistemic = gᵀΣg; in classification probability, bernoulli = p(1 − p) and
        second_order_aleatoric = p(1 − p) − gᵀΣg, in regression value.
    """
    link = LINKS[experiment.problem.task]
    norms = epistemic(fit.network, experiment.grid.points, link=link)
    curved = laplace.full_laplace(fit, experiment.problem, experiment.prior)
    variance = curved.variance(experiment.grid.points, lambda f: predictions_from(f, link))
    columns = {"gradient_norm": norms.total, "laplace_epistemic": variance}
    if link == "identity":
        columns["value"] = norms.values
    else:
        bernoulli = aleatoric(norms)
        columns |= {"probability": norms.values, "bernoulli": bernoulli}
        columns["second_order_aleatoric"] = bernoulli - variance
    return pd.DataFrame({name: by_class(values) for name, values in columns.items()})


def binary_predictives(
    experiment: Experiment, fit: MapFit, *, samples: int = 200, seed: int = 0
) -> pd.DataFrame:
    """Two predictives of one Laplace posterior, for Table 6.

    Args:
        experiment: a binary problem, its prior and grid.
        fit: the network at the mode.
        samples: weight samples of the sampled predictive.
        seed: their seed.

    Returns:
        One row per grid point: linearised_ and sampled_ epistemic and aleatoric.
    """
    points, problem, prior = experiment.grid.points, experiment.problem, experiment.prior
    curved = laplace.full_laplace(fit, problem, prior)
    spread = predictive.output_covariance(curved, points)
    linear = predictive.linearised_predictive(fit.network(points), spread, problem)
    covariance = laplace.dense_covariance(fit, problem, prior)
    drawn = predictive.sampled_outputs(fit.network, covariance, points, samples=samples, seed=seed)
    sampled = drawn.sigmoid()[..., 0]
    columns = {
        "linearised_epistemic": linear.epistemic[:, 0],
        "linearised_aleatoric": linear.aleatoric[:, 0],
        "sampled_epistemic": sampled.var(0, correction=0),
        "sampled_aleatoric": (sampled * (1 - sampled)).mean(0),
    }
    return pd.DataFrame({name: values.numpy() for name, values in columns.items()})


def maps(experiment: Experiment, *, map_seed: int = 0) -> pd.DataFrame:
    """Figures 2, 5 to 8: every estimate beside the reference, one row per class and grid point."""
    fit = fit_map(experiment.architecture, experiment.problem, experiment.prior, seed=map_seed)
    frame = reference(experiment).join(point_estimates(experiment, fit))
    if experiment.problem.task != "binary":
        return frame
    return frame.join(binary_predictives(experiment, fit))
