"""The records of the scaling study: moments of the predictions of one wide posterior."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from gnuq.artefacts import Checkpoints, Origin
from gnuq.estimators import epistemic
from gnuq.gradnorm import gradient_factors
from gnuq.pipeline.posteriors import rounded
from gnuq.posteriors.diagonals import diagonal_form
from gnuq.posteriors.moments import pooled
from gnuq.posteriors.training import point_estimate
from gnuq.results.scaling import pooled as pooled_chains
from gnuq.scaling import Run
from gnuq.walkthrough.scaling import fresh_chains


def configuration(run: Run) -> dict[str, Any]:
    """Everything that was decided before the run, as JSON-able values."""
    problem, architecture = run.problem, run.architecture
    return {
        "problem": problem.name,
        "seed": run.seed,
        "points": len(problem.inputs),
        "noise": problem.noise,
        "prior": asdict(run.prior),
        "hidden": list(architecture.hidden),
        "activation": architecture.activation,
        "parameters": architecture.parameters,
        "grid": len(run.grid.points),
        "sampler": asdict(run.sampler),
    }


def scaling_record(run: Run, origin: Origin) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Sample one posterior, from where its checkpoints stand, and reduce it to moments.

    Returns:
        One row per class and grid point, class by class: x, y, class; mean and variance of the
        probability in each chain; r_hat and effective_samples; linear_variance_a and _b, gᵀΣg
        with Σ from either half of the chains and g at the first point estimate; diagonal,
        Σ_i g_i² Σ_ii; and draw_probability, draw_norm, the prediction and its squared gradient
        norm at the last draw of the first chain. The report holds what the sampler says.
    """
    from gnuq.posteriors import diagnostics, streaming  # PyMC and JAX: seconds to import

    problem, points = run.problem, run.grid.points
    network, found_as = point_estimate(run.architecture, problem, run.prior)
    mode = nn.utils.parameters_to_vector(network.parameters())
    compiled = streaming.sampler(
        run.architecture, problem, run.prior, mode.numpy(), points, run.sampler
    )
    chains = streaming.sample(compiled, batch=run.batch, store=Checkpoints(run.name, origin))
    log_odds = np.stack([np.concatenate(chain.log_odds) for chain in chains])
    found = diagnostics.convergence(1 / (1 + np.exp(-log_odds.astype(np.float64))))
    spread = pooled([chain.weights for chain in chains])
    half = len(chains) // 2
    halves = {"a": chains[:half], "b": chains[half:]}
    columns = {
        **{f"mean_{c}": chain.predictions.mean for c, chain in enumerate(chains)},
        **{f"variance_{c}": chain.predictions.variance for c, chain in enumerate(chains)},
        "r_hat": found.r_hat.round(4),
        "effective_samples": found.effective_samples.round(),
        **{
            f"linear_variance_{name}": pooled([c.linear for c in part]).variance
            for name, part in halves.items()
        },
        "diagonal": _weighted_by(network, points, torch.from_numpy(spread.variance)),
        **_at_draw(run, torch.from_numpy(chains[0].position.astype(np.float64))),
    }
    frame = _places(run).assign(**{k: rounded(v.T.ravel()) for k, v in columns.items()})
    report = {
        "r_hat_max": float(found.r_hat.max()),
        "effective_samples_min": float(found.effective_samples.min()),
        "effective_samples_median": float(np.median(found.effective_samples)),
        "converged": found.reached,
        **streaming.report(chains, compiled),
        "point_estimate": found_as,
        "trace": float(spread.variance.sum()),
        "point_norm": float(mode.square().sum()),
    }
    return frame, report


def _places(run: Run) -> pd.DataFrame:
    points, classes = run.grid.points.numpy(), run.problem.outputs
    return pd.DataFrame(
        {
            "x": np.tile(points[:, 0], classes),
            "y": np.tile(points[:, 1], classes),
            "class": np.repeat(np.arange(classes, dtype=np.int8), len(points)),
        }
    )


def _weighted_by(network: nn.Module, points: Tensor, diagonal: Tensor) -> np.ndarray:
    """Σ_i g_i² d_i of every class at every point."""
    parts = [
        diagonal_form(gradient_factors(network, part, lambda f: f.softmax(1)), diagonal)
        for part in points.split(500)
    ]
    return torch.cat(parts).numpy()


def _at_draw(run: Run, weights: Tensor) -> dict[str, np.ndarray]:
    """What the weights of one draw predict, and the squared gradient norm there."""
    network = run.architecture.build().requires_grad_(False)
    nn.utils.vector_to_parameters(weights, network.parameters())
    found = epistemic(network, run.grid.points, link="softmax")
    return {"draw_probability": found.values.numpy(), "draw_norm": found.total.numpy()}


def replayed(run: Run, *, draws: int, seed: int) -> np.ndarray:
    """Fresh, shorter chains of a run: every draw's class probabilities on the whole grid.

    Returns:
        Shape (chains, draws, grid, classes).
    """
    chains = fresh_chains(run, replace(run.sampler, draws=draws, seed=seed))
    log_odds = np.stack([np.concatenate(chain.log_odds) for chain in chains])
    found: np.ndarray = 1 / (1 + np.exp(-log_odds.astype(np.float64)))
    return found


def by_half(record: pd.DataFrame, chains: int) -> pd.DataFrame:
    """A record's moments over either half of its chains: mean_a, variance_a, mean_b, variance_b."""
    found = {}
    for name, part in (("a", range(chains // 2)), ("b", range(chains // 2, chains))):
        found[f"mean_{name}"], found[f"variance_{name}"] = pooled_chains(record, part)
    return pd.DataFrame(found)
