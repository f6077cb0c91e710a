"""What the chapter on §2 shows: MAP, Eq. (1) against Eq. (2), and p* against p̄."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from scipy.special import digamma, entr
from scipy.stats import pearsonr, spearmanr
from torch import distributions, nn

from gnuq import artefacts, results
from gnuq.networks import fit_map, predict
from gnuq.protocol import DATA_SEEDS, Experiment
from gnuq.walkthrough.axioms import measures

BINARY = ("linear", "xor", "rings")
#: Two distributions of p that Eq. (1) and (2) order differently: the parameters of a Beta.
PAIR = {"A": (0.2, 9.8), "B": (24.5, 24.5)}


def regularised_training(problems: Sequence[str] = BINARY, *, seed: int = 0) -> pd.DataFrame:
    """Regularised training is MAP estimation, with the constant that `fit_map` leaves out.

    The log-posterior is written a second time, with `torch.distributions`. Objective plus
    log-posterior must then be −(P/2) log(2π/λ), the logarithm of the prior's normalisation.

    Args:
        problems: names of binary problems.
        seed: start of the training.

    Returns:
        One row per problem: P, the norm of the objective's gradient at the mode (nats), and
        the distance of that sum from its closed form (nats).
    """
    rows = {}
    for name in problems:
        experiment = Experiment(name)
        problem, precision = experiment.problem, experiment.prior.precision
        fit = fit_map(experiment.architecture, problem, experiment.prior, seed=seed)
        weights = nn.utils.parameters_to_vector(fit.network.parameters())
        prior = distributions.Normal(0.0, precision**-0.5).log_prob(weights).sum()
        likelihood = distributions.Bernoulli(logits=fit.network(problem.inputs)[:, 0])
        posterior = float(prior + likelihood.log_prob(problem.targets.double()).sum())
        constant = -len(weights) / 2 * math.log(2 * math.pi / precision)
        rows[name] = {
            "parameters": len(weights),
            "gradient norm at the mode": fit.gradient_norm,
            "distance from the closed form": abs(fit.negative_log_posterior + posterior - constant),
        }
    return pd.DataFrame(rows).T.astype({"parameters": int})


def beta_epistemic(
    a: float | Float[np.ndarray, " n"], b: float | Float[np.ndarray, " n"]
) -> tuple[Float[np.ndarray, "*n"], Float[np.ndarray, "*n"]]:
    """Mutual information (nats) and variance of p ~ Beta(a, b), in closed form.

    With m = a/(a + b), ψ the digamma function and h the binary entropy,
    I = h(m) − [ψ(a + b + 1) − m ψ(a + 1) − (1 − m) ψ(b + 1)] and Var = m(1 − m)/(a + b + 1).
    """
    total = np.asarray(a, dtype=float) + b
    m = a / total
    conditional = digamma(total + 1) - m * digamma(a + 1) - (1 - m) * digamma(b + 1)
    information = entr(m) + entr(1 - m) - conditional
    return np.asarray(information), np.asarray(m * (1 - m) / (total + 1))


def beta_family(means: Sequence[float] = (0.5, 0.2, 0.05, 0.02)) -> pd.DataFrame:
    """Mutual information against variance as Beta distributions of fixed mean spread out.

    Args:
        means: E[p] of each curve.

    Returns:
        Tidy: mean, variance, mutual_information; a + b runs from 10⁴ down to 10⁻².
    """
    total = np.logspace(4, -2, 121)
    parts = []
    for m in means:
        information, variance = beta_epistemic(m * total, (1 - m) * total)
        columns = {"mean": m, "variance": variance, "mutual_information": information}
        parts.append(pd.DataFrame(columns))
    return pd.concat(parts, ignore_index=True)


def disagreeing_pair(*, draws: int = 200_000, seed: int = 0) -> pd.DataFrame:
    """`PAIR` by the closed form and by draws: A has more mutual information, B more variance.

    Args:
        draws: draws of p for each.
        seed: their seed.
    """
    rng = np.random.default_rng(seed)
    rows = {}
    for name, (a, b) in PAIR.items():
        information, variance = beta_epistemic(a, b)
        drawn = measures({name: torch.from_numpy(rng.beta(a, b, draws))}).loc[name]
        rows[f"{name}: Beta({a:g}, {b:g})"] = {
            "mean of p": a / (a + b),
            "I": information,
            "I, drawn": drawn["epistemic (1)"],
            "Var": variance,
            "Var, drawn": drawn["epistemic (2)"],
        }
    return pd.DataFrame(rows).T.astype(float)


def entropy_map(experiment: Experiment) -> pd.DataFrame:
    """Both epistemic parts of a binary problem's record, one row a grid point.

    Returns:
        x, y, inside, hmc_mean, hmc_epistemic = Var[p], mutual_information = h(p̄) − E[h(p)] in
        nats, and doubt = min(p̄, 1 − p̄).
    """
    frame = results.reference(experiment)[["x", "y", "inside", "hmc_mean", "hmc_epistemic"]]
    mean = frame["hmc_mean"]
    conditional = artefacts.load("records", experiment.record).frame["entropy"].astype(float)
    information = entr(mean) + entr(1 - mean) - conditional
    return frame.assign(mutual_information=information, doubt=np.minimum(mean, 1 - mean))


def map_agreement(problems: Sequence[str] = BINARY) -> pd.DataFrame:
    """How alike the maps of mutual information and of variance are, first data set of each."""
    rows = {}
    for name in problems:
        frame = entropy_map(Experiment(name))
        pair = frame["mutual_information"], frame["hmc_epistemic"]
        ratio = pair[0] / pair[1]
        rows[name] = {
            "Pearson": pearsonr(*pair)[0],
            "Spearman": spearmanr(*pair)[0],
            "I / Var, p̄ in 0.3 … 0.7": ratio[frame["doubt"] > 0.3].median(),
            "I / Var, p̄ beyond 0.02 or 0.98": ratio[frame["doubt"] < 0.02].median(),
        }
    return pd.DataFrame(rows).T


def point_against_mean(experiment: Experiment) -> pd.DataFrame:
    """The probability at the mode beside the posterior mean, one row a grid point.

    Returns:
        x, y, inside, point = p*, mean = p̄, variance = Var[p] and
        total_error = p*(1 − p*) − p̄(1 − p̄), what Eq. (2) is wrong by if p* stands for p̄.
    """
    fit = fit_map(experiment.architecture, experiment.problem, experiment.prior)
    point = predict(fit.network, experiment.grid.points, experiment.problem)[:, 1].numpy()
    frame = results.reference(experiment)
    mean = frame["hmc_mean"]
    error = point * (1 - point) - mean * (1 - mean)
    return frame[["x", "y", "inside"]].assign(
        point=point, mean=mean, variance=frame["hmc_epistemic"], total_error=error
    )


def point_gaps(
    problems: Sequence[str] = BINARY, *, seeds: Sequence[int] = DATA_SEEDS
) -> pd.DataFrame:
    """How far p* lies from p̄ over the grid; means over data seeds, one row a problem."""
    rows = []
    for name in problems:
        for seed in seeds:
            frame = point_against_mean(Experiment(name, seed=seed))
            gap = abs(frame["point"] - frame["mean"])
            error, variance = abs(frame["total_error"]).mean(), frame["variance"].mean()
            nearer = abs(frame["mean"] - 0.5) < abs(frame["point"] - 0.5)
            rows.append(
                {
                    "problem": name,
                    "mean |p* − p̄|": gap.mean(),
                    "largest |p* − p̄|": gap.max(),
                    "p̄ nearer ½, share": nearer.mean(),
                    "mean |error of total|": error,
                    "mean Var[p]": variance,
                    "error / Var[p]": error / variance,
                }
            )
    return pd.DataFrame(rows).groupby("problem", sort=False).mean()
