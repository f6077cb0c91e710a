"""The records of the curve: moments of the predictions of one posterior, and its gradients' forms.

They rest on the sampler and on JAX's own derivatives alone, not on `gnuq.gradnorm`: the reference
stays what it is while the estimate that is held against it is worked on.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from torch import nn

from gnuq.artefacts import Checkpoints, Origin
from gnuq.curve import Run
from gnuq.pipeline.posteriors import rounded
from gnuq.posteriors.training import point_estimate


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


def curve_record(run: Run, origin: Origin) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Sample one posterior, from where its checkpoints stand, and reduce it.

    Returns:
        One row per class and grid point of `run.grid`, class by class; the columns are those of
        `gnuq.posteriors.summary.Summary`. The report holds what the sampler says.
    """
    from gnuq.posteriors import streamed  # JAX: seconds to import
    from gnuq.posteriors.summary import summarised

    network, found_as = point_estimate(run.architecture, run.problem, run.prior)
    mode = nn.utils.parameters_to_vector(network.parameters()).numpy()
    points = run.grid.points
    compiled = streamed.of_network(
        run.architecture, run.problem, run.prior, mode, points, run.sampler
    )
    blocks, size = streamed.sample(compiled, batch=run.batch, store=Checkpoints(run.name, origin))
    whitened = streamed.whitened_network(run.architecture, run.prior)
    summary = summarised(blocks, whitened, mode, points.numpy())
    frame = pd.DataFrame({name: rounded(v.T.ravel()) for name, v in summary.columns.items()})
    report = {
        **summary.report,
        **streamed.report(blocks, size),
        "point_estimate": found_as,
        "point_norm": float(mode @ mode),
    }
    return frame, report


def replayed(run: Run, *, draws: int, seed: int) -> Float[np.ndarray, "chains draws grid classes"]:
    """Fresh, shorter chains of a run: every draw's class probabilities on the whole grid."""
    from gnuq.posteriors import streamed
    from gnuq.posteriors.blocks import log_odds

    # Where the gradients are taken decides nothing about the draws.
    anywhere = np.zeros(run.architecture.parameters)
    settings = replace(run.sampler, draws=draws, seed=seed)
    compiled = streamed.of_network(
        run.architecture, run.problem, run.prior, anywhere, run.grid.points, settings
    )
    blocks, _ = streamed.sample(compiled, batch=draws)
    return 1 / (1 + np.exp(-log_odds(blocks).astype(np.float64)))


def halves(record: pd.DataFrame) -> pd.DataFrame:
    """A record's moments over either half of its chains: mean_a, variance_a, mean_b, variance_b."""
    return record[["mean_a", "variance_a", "mean_b", "variance_b"]].astype(float)
