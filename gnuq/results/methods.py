"""Every method evaluated at the mode, on the grid of a record."""

from __future__ import annotations

import pandas as pd

from gnuq.estimators import aleatoric, epistemic, predictions_from
from gnuq.networks import MapFit, fit_map
from gnuq.posteriors import laplace
from gnuq.protocol import Experiment
from gnuq.results.references import reference


def point_estimates(
    experiment: Experiment, fit: MapFit, *, samples: int = 200, seed: int = 0
) -> pd.DataFrame:
    """Everything that a mode (and its curvature) says on the grid.

    Args:
        experiment: problem, prior and grid.
        fit: the network at the mode.
        samples: weight samples of the Laplace posterior for the sampled predictive.
        seed: their seed.

    Returns:
        One row per grid point: probability, bernoulli = p(1 − p), gradient_norm = ‖g‖²,
        laplace_epistemic = gᵀΣg, linearised_ and sampled_ epistemic and aleatoric, and
        second_order_aleatoric = p(1 − p) − gᵀΣg.
    """
    points, problem, prior = experiment.grid.points, experiment.problem, experiment.prior
    norms = epistemic(fit.network, points, link="sigmoid")
    curved = laplace.full_laplace(fit, problem, prior)
    variance = curved.variance(points, lambda f: predictions_from(f, "sigmoid"))
    logits = fit.network(points)[:, 0]
    linear = laplace.linearised_predictive(logits, curved.variance(points, lambda f: f[:, 0]))
    covariance = laplace.dense_covariance(fit, problem, prior)
    drawn = laplace.sampled_predictions(fit, covariance, points, samples=samples, seed=seed)
    sampled = drawn.sigmoid()[..., 0]
    bernoulli = aleatoric(norms.values)
    columns = {
        "probability": norms.values,
        "bernoulli": bernoulli,
        "gradient_norm": norms.total,
        "laplace_epistemic": variance,
        "linearised_epistemic": linear.epistemic,
        "linearised_aleatoric": linear.aleatoric,
        "sampled_epistemic": sampled.var(0, correction=0),
        "sampled_aleatoric": (sampled * (1 - sampled)).mean(0),
        "second_order_aleatoric": bernoulli - variance,
    }
    return pd.DataFrame({name: values.numpy() for name, values in columns.items()})


def maps(experiment: Experiment, *, map_seed: int = 0) -> pd.DataFrame:
    """Figures 2, 5, 6, 8: every method's map beside the reference, one row per grid point."""
    fit = fit_map(experiment.architecture, experiment.problem, experiment.prior, seed=map_seed)
    return reference(experiment).join(point_estimates(experiment, fit))
