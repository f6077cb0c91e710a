"""Every way to get a variance, behind one signature: what the comparison of chapters runs.

A method takes the problem, the prior and the network at its mode, does what it must do once
(curvature, further trainings), and returns a predictor: inputs to an `Estimate` per output.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from jaxtyping import Float
from torch import Tensor

from gnuq.estimators import epistemic, predictions_from
from gnuq.estimators.links import Link
from gnuq.networks import Architecture, MapFit, Prior, probabilities
from gnuq.posteriors import ensembles, kfac, laplace, predictive
from gnuq.problems import Problem, Task

LINKS: dict[Task, Link] = {"binary": "sigmoid", "multiclass": "softmax", "regression": "identity"}


@dataclass(frozen=True)
class Estimate:
    """What a method says per output, shape (batch, outputs); binary problems: class 1 alone.

    Attributes:
        epistemic: an estimate of Var[p], or of the value's variance; ‖g‖² is on no scale.
        aleatoric: an estimate of E[p(1 − p)]; None in regression, where it is the known noise.
    """

    epistemic: Float[Tensor, "batch outputs"]
    aleatoric: Float[Tensor, "batch outputs"] | None


Predictor = Callable[[Float[Tensor, "batch d"]], Estimate]
Method = Callable[[Problem, Prior, MapFit], Predictor]


def gradient_norm(problem: Problem, prior: Prior, fit: MapFit) -> Predictor:
    """Eq. (4) and (8): ‖g‖² and p(1 − p) at the mode; the prior plays no part."""

    def predict(inputs: Tensor) -> Estimate:
        norms = epistemic(fit.network, inputs, link=LINKS[problem.task])
        shape = (len(inputs), problem.outputs)
        return Estimate(
            norms.total.reshape(shape), _bernoulli(norms.values.reshape(shape), problem)
        )

    return predict


def point(problem: Problem, prior: Prior, fit: MapFit) -> Predictor:
    """p(1 − p) for both: the baseline that needs no gradient.

    Raises:
        ValueError: a regression problem, which has no such thing.
    """
    if problem.task == "regression":
        raise ValueError(f"problem: {problem.name!r} is regression; p(1 − p) needs probabilities.")

    def predict(inputs: Tensor) -> Estimate:
        p = probabilities(fit.network(inputs), problem)[:, -problem.outputs :]
        return Estimate(p * (1 - p), p * (1 - p))

    return predict


def _bernoulli(predictions: Tensor, problem: Problem) -> Tensor | None:
    return None if problem.task == "regression" else predictions * (1 - predictions)


def identity(problem: Problem, prior: Prior, fit: MapFit) -> laplace.DiagonalLaplace:
    """The identity-curvature approximation; it needs no data."""
    return laplace.identity_curvature(fit, prior)


#: Gaussian approximations of the posterior, by the form of Σ.
APPROXIMATIONS: dict[str, Callable[[Problem, Prior, MapFit], predictive.Approximation]] = {
    "identity": identity,
    "diagonal": lambda problem, prior, fit: laplace.diagonal_laplace(fit, problem, prior),
    "last layer": lambda problem, prior, fit: laplace.last_layer_laplace(fit, problem, prior),
    "K-FAC": lambda problem, prior, fit: kfac.kfac_laplace(fit, problem, prior),
    "full": lambda problem, prior, fit: laplace.full_laplace(fit, problem, prior),
}


def delta(covariance: str, problem: Problem, prior: Prior, fit: MapFit) -> Predictor:
    """Eq. (3): gᵀΣg of the prediction, and p(1 − p) − gᵀΣg for the aleatoric part."""
    approximation = APPROXIMATIONS[covariance](problem, prior, fit)
    link = LINKS[problem.task]

    def predict(inputs: Tensor) -> Estimate:
        shape = (len(inputs), problem.outputs)
        found = approximation.variance(inputs, lambda f: predictions_from(f, link))
        p = predictions_from(fit.network(inputs), link).reshape(shape)
        variance, bernoulli = found.reshape(shape), _bernoulli(p, problem)
        return Estimate(variance, None if bernoulli is None else bernoulli - variance)

    return predict


def linearised(covariance: str, problem: Problem, prior: Prior, fit: MapFit) -> Predictor:
    """Outputs of the linearised network, N(f*, JΣJᵀ), through the link."""
    approximation = APPROXIMATIONS[covariance](problem, prior, fit)

    def predict(inputs: Tensor) -> Estimate:
        spread = predictive.output_covariance(approximation, inputs)
        found = predictive.linearised_predictive(fit.network(inputs), spread, problem)
        return Estimate(found.epistemic, found.aleatoric)

    return predict


def sampled(covariance: str, problem: Problem, prior: Prior, fit: MapFit) -> Predictor:
    """200 weight vectors from N(θ*, Σ), through the network itself."""
    matrix = APPROXIMATIONS[covariance](problem, prior, fit).covariance_matrix()

    def predict(inputs: Tensor) -> Estimate:
        drawn = predictive.sampled_outputs(fit.network, matrix, inputs)
        found = predictive.sample_decomposition(drawn, problem)
        return Estimate(found.epistemic, found.aleatoric)

    return predict


def architecture_of(fit: MapFit) -> Architecture:
    """The architecture of a trained network, read off its layers."""
    weights = [p for p in fit.network.parameters() if p.ndim == 2]
    hidden = tuple(len(w) for w in weights[:-1])
    return Architecture(weights[0].shape[1], hidden, len(weights[-1]))


def ensemble(problem: Problem, prior: Prior, fit: MapFit) -> Predictor:
    """Ten networks trained from ten starts."""
    members = ensembles.deep_ensemble(architecture_of(fit), problem, prior)

    def predict(inputs: Tensor) -> Estimate:
        drawn = ensembles.ensemble_outputs(members, inputs)
        found = predictive.sample_decomposition(drawn, problem)
        return Estimate(found.epistemic, found.aleatoric)

    return predict


def dropout(problem: Problem, prior: Prior, fit: MapFit) -> Predictor:
    """One network trained with dropout, 100 masks."""
    network = ensembles.dropout_network(architecture_of(fit), problem, prior)

    def predict(inputs: Tensor) -> Estimate:
        drawn = ensembles.dropout_outputs(network, inputs)
        found = predictive.sample_decomposition(drawn, problem)
        return Estimate(found.epistemic, found.aleatoric)

    return predict


METHODS: dict[str, Method] = {
    "gradient norm": gradient_norm,
    "p(1 − p)": point,
    **{
        f"{covariance}, {way.__name__}": partial(way, covariance)
        for covariance in APPROXIMATIONS
        for way in (delta, linearised, sampled)
    },
    "deep ensemble": ensemble,
    "MC dropout": dropout,
}


def applicable(problem: Problem, architecture: Architecture) -> list[str]:
    """The methods that mean something for a problem and a network, in the order of `METHODS`.

    p(1 − p) needs probabilities, and in regression the linearised output is the prediction, so
    that the delta method says all; dropout needs hidden units; for a linear model the last layer
    is all of them, and a convex problem has one mode, whose ensemble has no spread.
    """
    kept = dict(METHODS)
    if problem.task == "regression":
        kept = {k: v for k, v in kept.items() if not k.endswith("linearised")}
        del kept["p(1 − p)"]
    if not architecture.hidden:
        kept = {k: v for k, v in kept.items() if not k.startswith("last layer")}
        del kept["deep ensemble"], kept["MC dropout"]
    return list(kept)
