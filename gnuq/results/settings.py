"""The settings as a table, each with what the paper's text says about it."""

from __future__ import annotations

import pandas as pd

from gnuq import protocol
from gnuq.problems import PROBLEMS
from gnuq.protocol import Experiment


def settings() -> pd.DataFrame:
    """What was fixed beforehand, and whether the paper says it."""
    sampler, seeds = protocol.SAMPLER, ", ".join(map(str, protocol.DATA_SEEDS))
    line, plane = protocol.RESOLUTION[1], protocol.RESOLUTION[2]
    rows = [
        ("activation", "tanh", "smooth; name lost in the text"),
        ("prior", protocol.PRIOR_LABELS[protocol.PRIMARY] + ", every weight", "not stated"),
        ("training points", str(protocol.POINTS), "not stated"),
        ("data seeds", seeds, "not stated"),
        ("grid", f"{plane} × {plane} points, in regression {line}; {protocol.MARGIN:.0%} beyond "
                 "the data on each side", "“dense grid”"),
        ("sampler", f"HMC, {sampler.chains} chains × ({sampler.tune} + {sampler.draws}), "
                    f"target acceptance {sampler.target_accept}", "HMC with dual averaging"),
        ("point estimate", "L-BFGS in float64 to a gradient norm below 1e-4", "not stated"),
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=["", "here", "in the paper's text"]).set_index("")


def problems() -> pd.DataFrame:
    """The problems and their networks.

    Returns:
        One row per problem: task, classes, network, parameters, noise.
    """
    rows = {}
    for name in protocol.HIDDEN:
        architecture, recipe = Experiment(name).architecture, PROBLEMS[name]
        widths = (architecture.inputs, *architecture.hidden, architecture.outputs)
        rows[name] = {
            "task": recipe.task,
            "classes": "–" if recipe.task == "regression" else str(recipe.classes),
            "network": "–".join(map(str, widths)),
            "parameters": architecture.parameters,
            "noise": f"{recipe.noise:g}",
        }
    return pd.DataFrame(rows).T.rename_axis("problem")
