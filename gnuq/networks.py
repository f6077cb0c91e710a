"""The small networks of §4.1 and their training to the mode of the posterior (MAP)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from scipy.optimize import OptimizeResult, minimize
from threadpoolctl import threadpool_limits
from torch import Tensor, nn
from torch.nn import functional as F

from gnuq.problems import Problem


@dataclass(frozen=True)
class Architecture:
    """A multilayer perceptron with tanh units; no hidden layer makes it a linear model.

    The paper's text lost the activation's name; tanh is inferred (it is smooth). Appendix A's
    network is `Architecture(2, (32, 32), 1)`, with 1 185 parameters.
    """

    inputs: int
    hidden: tuple[int, ...]
    outputs: int

    @property
    def layers(self) -> list[tuple[int, int]]:
        """(fan-in, fan-out) of every linear layer, from the input upwards."""
        widths = (self.inputs, *self.hidden, self.outputs)
        return list(itertools.pairwise(widths))

    @property
    def parameters(self) -> int:
        """Number of parameters, P."""
        return sum((fan_in + 1) * fan_out for fan_in, fan_out in self.layers)

    def must_suit(self, problem: Problem) -> None:
        """Raise a ValueError unless the output count is the one that the problem needs."""
        if self.outputs != problem.outputs:
            raise ValueError(
                f"architecture: {self.outputs} outputs, but {problem.name!r} ({problem.task}) "
                f"needs {problem.outputs}."
            )

    def build(self, seed: int = 0) -> nn.Sequential:
        """The network in float64 with weights N(0, 1/fan_in) and zero biases, seeded."""
        generator = torch.Generator().manual_seed(seed)
        modules: list[nn.Module] = []
        for fan_in, fan_out in self.layers:
            linear = nn.utils.skip_init(nn.Linear, fan_in, fan_out, dtype=torch.float64)
            nn.init.normal_(linear.weight, std=fan_in**-0.5, generator=generator)
            nn.init.zeros_(linear.bias)
            modules += [linear, nn.Tanh()]
        return nn.Sequential(*modules[:-1])


#: Hidden units by name.
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "gelu": nn.GELU,
}


@dataclass(frozen=True)
class Activated(Architecture):
    """The same with other hidden units, a key of `ACTIVATIONS`."""

    activation: str = "tanh"

    def __post_init__(self) -> None:
        if self.activation not in ACTIVATIONS:
            known = ", ".join(ACTIVATIONS)
            raise ValueError(f"activation: {self.activation!r} is unknown; one of {known}.")

    def build(self, seed: int = 0) -> nn.Sequential:
        """As of `Architecture`, with this activation between the layers."""
        unit = ACTIVATIONS[self.activation]
        modules = super().build(seed)
        return nn.Sequential(*(unit() if isinstance(m, nn.Tanh) else m for m in modules))


@dataclass(frozen=True)
class Prior:
    """A centred Gaussian prior, independent over parameters.

    Attributes:
        precision: λ. With `scaling="unit"` every parameter has variance 1/λ (weight decay).
        scaling: `"fan_in"` gives a weight the variance 1/(λ·fan_in) and a bias 1/λ, so that
            the prior over functions does not grow with the width.
    """

    precision: float = 1.0
    scaling: Literal["unit", "fan_in"] = "unit"

    def __post_init__(self) -> None:
        if not (math.isfinite(self.precision) and self.precision > 0):
            raise ValueError(f"precision: {self.precision} is not a positive number.")
        if self.scaling not in ("unit", "fan_in"):
            raise ValueError(f"scaling: {self.scaling!r} is neither 'unit' nor 'fan_in'.")

    def precisions(self, architecture: Architecture) -> Float[Tensor, " parameters"]:
        """Prior precision of every parameter, in the order of `module.parameters()`."""
        return self.precisions_of(architecture.build())

    def precisions_of(self, network: nn.Module) -> Float[Tensor, " parameters"]:
        """The same for a network that is already built."""
        variances = self.variances(network)
        return torch.cat(
            [torch.full_like(p.flatten(), 1 / variances[n]) for n, p in network.named_parameters()]
        ).detach()

    def variances(self, network: nn.Module) -> dict[str, float]:
        """Prior variance of every parameter tensor, by name: constant within a tensor."""
        return {
            name: 1 / (self.precision * (p.shape[1] if self._scaled(p) else 1))
            for name, p in network.named_parameters()
        }

    def _scaled(self, parameter: Tensor) -> bool:
        return self.scaling == "fan_in" and parameter.ndim == 2


@dataclass(frozen=True)
class MapFit:
    """A network at a mode of the posterior, with the evidence that it is one.

    Attributes:
        network: the trained network, in eval mode, weights frozen.
        negative_log_posterior: its objective, summed over the data, without constants (nats).
        gradient_norm: Euclidean norm of the objective's gradient at the end.
        iterations: L-BFGS iterations.
    """

    network: nn.Sequential
    negative_log_posterior: float
    gradient_norm: float
    iterations: int


def predict(
    network: nn.Module, inputs: Float[Tensor, "batch dimensions"], problem: Problem
) -> Float[Tensor, "batch classes"]:
    """Probabilities of all classes, shape (batch, classes); in regression the value, (batch, 1)."""
    return probabilities(network(inputs), problem)


def probabilities(
    outputs: Float[Tensor, "batch outputs"], problem: Problem
) -> Float[Tensor, "batch classes"]:
    """The network's outputs as class probabilities (sigmoid or softmax), or unchanged."""
    if problem.task == "binary":
        return torch.sigmoid(torch.cat([-outputs, outputs], 1))
    return torch.softmax(outputs, 1) if problem.task == "multiclass" else outputs


def negative_log_likelihood(outputs: Float[Tensor, "batch outputs"], problem: Problem) -> Tensor:
    """Negative log-likelihood of the training targets, summed over points (nats)."""
    if problem.task == "binary":
        target = problem.targets.to(outputs.dtype)
        return F.binary_cross_entropy_with_logits(outputs[:, 0], target, reduction="sum")
    if problem.task == "multiclass":
        return F.cross_entropy(outputs, problem.targets, reduction="sum")
    return ((outputs[:, 0] - problem.targets) ** 2).sum() / (2 * problem.noise**2)


@torch.enable_grad()
def fit_map(
    architecture: Architecture,
    problem: Problem,
    prior: Prior,
    *,
    seed: int = 0,
    gradient_tolerance: float = 1e-4,
    max_iterations: int = 20_000,
) -> MapFit:
    """Train a network to a mode of its posterior by L-BFGS in float64.

    The objective is the summed negative log-likelihood plus ½ Σᵢ λᵢ θᵢ²: regularised training
    is MAP estimation (§2.1). Which mode is found depends on `seed`, the start.

    Raises:
        ValueError: the architecture's output count does not suit the problem.
        RuntimeError: L-BFGS stopped with a larger gradient norm than `gradient_tolerance`.
    """
    architecture.must_suit(problem)
    network = architecture.build(seed)
    objective = _flat_objective(network, problem, prior.precisions(architecture))
    start = nn.utils.parameters_to_vector(network.parameters()).detach().numpy()
    found = _minimise(objective, start, gradient_tolerance, max_iterations)
    norm = float(np.linalg.norm(found.jac))
    if norm > gradient_tolerance:
        raise RuntimeError(
            f"fit_map: stopped after {found.nit} iterations at gradient norm {norm:.1e} "
            f"> {gradient_tolerance:.1e} ({found.message}); raise max_iterations or change seed."
        )
    nn.utils.vector_to_parameters(torch.from_numpy(found.x), network.parameters())
    return MapFit(network.eval().requires_grad_(False), float(found.fun), norm, int(found.nit))


def _minimise(
    objective: Callable[[np.ndarray], tuple[float, np.ndarray]],
    start: np.ndarray,
    tolerance: float,
    max_iterations: int,
    restarts: int = 3,
) -> OptimizeResult:
    """L-BFGS; where rounding stops the line search early, begun again with a fresh memory."""
    options: dict[str, float] = {
        "maxiter": max_iterations,
        "maxfun": 2 * max_iterations,
        "maxcor": 30,
        "gtol": tolerance / 10 / len(start) ** 0.5,
        "ftol": 0.0,
    }
    iterations = 0
    for _ in range(1 + restarts):
        with threadpool_limits(1):  # SciPy's BLAS threads and torch's would wait for each other
            found = minimize(objective, start, jac=True, method="L-BFGS-B", options=options)
        iterations += found.nit
        if np.linalg.norm(found.jac) <= tolerance or iterations >= max_iterations:
            break
        start = found.x
    found.nit = iterations
    return found


def _flat_objective(
    network: nn.Module, problem: Problem, precisions: Tensor
) -> Callable[[np.ndarray], tuple[float, np.ndarray]]:
    """The negative log-posterior and its gradient as a function of one flat NumPy vector."""

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weights = torch.from_numpy(flat)
        nn.utils.vector_to_parameters(weights, network.parameters())
        loss = negative_log_likelihood(network(problem.inputs), problem)
        gradients = torch.autograd.grad(loss, list(network.parameters()))
        gradient = nn.utils.parameters_to_vector(gradients) + precisions * weights
        total = loss + (precisions * weights**2).sum() / 2
        return total.item(), gradient.numpy().astype(np.float64)

    return objective
