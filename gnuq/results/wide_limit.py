"""The end of Figure 3: the isotropic estimate at infinite width, against the limit's posterior.

Under the prior that is scaled by fan-in the outputs of a wide network are a Gaussian process,
before and after seeing data, and the gradients of different outputs are orthogonal, with one
squared norm Θ(x, x). So at a draw with class probabilities p the squared gradient norm of p_k is

    p_k² [(1 − p_k)² + Σ_{c≠k} p_c²] Θ(x, x),

and what the estimate is worth can be said without a network.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.stats import pearsonr, spearmanr

from gnuq.posteriors.settings import StreamedHMC
from gnuq.posteriors.wide_kernels import WideKernels, squared_norms, wide_kernels
from gnuq.scaling import Run

#: Draws at which the norm is taken, evenly spread over each chain.
DRAWS = 20
SETTINGS = StreamedHMC(draws=1000)


@dataclass(frozen=True)
class Limit:
    """The posterior of a wide network on a run's grid.

    Attributes:
        probabilities: shape (chains, draws, grid, classes).
        kernels: at the grid's points, of networks of the run's width.
    """

    probabilities: Float[np.ndarray, "chains draws grid classes"]
    kernels: WideKernels


def limit(run: Run, settings: StreamedHMC = SETTINGS) -> Limit:
    """Sample the softmax process with the kernel of a run's network.

    Args:
        run: its data, prior, grid and architecture; under the prior that is scaled by fan-in the
            width decides nothing but the multiple of `kernels.gradient`.
        settings: of the sampler.
    """
    from gnuq.posteriors.softmax_process import sample_process  # JAX: seconds to import

    problem = run.problem
    inputs, grid = problem.inputs.numpy(), run.grid.points.numpy()
    kernels = wide_kernels(run.architecture, run.prior, np.concatenate([inputs, grid]))
    drawn = sample_process(kernels.outputs, problem.targets.numpy(), problem.classes, settings)
    there = slice(len(inputs), None)
    kept = WideKernels(
        kernels.outputs[there, there], kernels.tangent[there], kernels.gradient[there]
    )
    return Limit(drawn.probabilities, kept)


def correlations(found: Limit, inside: Float[np.ndarray, " grid"] | None = None) -> pd.DataFrame:
    """How well each estimate ranks and scales the limit's Var[p].

    Args:
        found: what `limit` returns.
        inside: which grid points count; all if omitted.

    Returns:
        One row per estimate: estimate, at; pearson, spearman; and their standard deviations over
        draws, where it is taken at single draws. The estimates are gradient_norm, ‖∇p‖² in the
        network's own coordinates; prior_norm, each gradient weighted by its prior variance;
        bernoulli, p(1 − p); and the ceiling, Var[p] of one half of the chains. They are taken at
        draws (mean over `DRAWS` a chain) and at the mean prediction.
    """
    p = found.probabilities.astype(np.float64)
    kept = np.ones(p.shape[2], bool) if inside is None else inside
    variance = p.var((0, 1))[kept]
    single = p[:, :: max(1, p.shape[1] // DRAWS)].reshape(-1, *p.shape[2:])
    half = len(p) // 2
    rows = [_row("ceiling", "halves", [p[:half].var((0, 1))[kept]], p[half:].var((0, 1))[kept])]
    for name, estimate in _estimates(found.kernels).items():
        at_draws = [estimate(q)[kept] for q in single]
        rows.append(_row(name, "draw", at_draws, variance))
        rows.append(_row(name, "mean", [estimate(p.mean((0, 1)))[kept]], variance))
    return pd.DataFrame(rows)


def _estimates(kernels: WideKernels) -> dict:
    return {
        "gradient_norm": lambda p: squared_norms(p, kernels.gradient),
        "prior_norm": lambda p: squared_norms(p, kernels.tangent),
        "bernoulli": lambda p: p * (1 - p),
    }


def _row(name: str, at: str, estimates: list[np.ndarray], variance: np.ndarray) -> dict:
    """Mean and spread of the correlations of some maps with one."""
    target = variance.ravel()
    pearson = [pearsonr(e.ravel(), target)[0] for e in estimates]
    spearman = [spearmanr(e.ravel(), target)[0] for e in estimates]
    return {
        "estimate": name,
        "at": at,
        "pearson": float(np.mean(pearson)),
        "spearman": float(np.mean(spearman)),
        "pearson_sd": float(np.std(pearson)),
        "spearman_sd": float(np.std(spearman)),
    }
