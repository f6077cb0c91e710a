"""Exact per-example squared gradient norms of any objective that is one scalar per example.

    norms = squared_gradient_norms(model, inputs, lambda logits: logits.softmax(1))
    norms.total          # (batch, classes): ‖∇_θ p_k‖², Eq. (4), all classes at once
    norms.by_module()    # the same, split over the modules that own the weights

`shapes` holds gradients in factored form and `factors` their inner products. `rules` has one rule
per layer kind, as have `convolutions`, `normalisation`, `recurrent` and `transformer_layers`; what
has none goes through `fallback`. `recorder` watches the forward pass, `passes` runs the backward
passes, `engine` puts them together; `judge` and `separation` say whether to believe it.
"""

# To import these is to register their rules.
from gnuq.gradnorm import (  # noqa: F401 they register their rules
    convolutions,
    normalisation,
    quantized,
    recurrent,
    sorted_experts,
    transformer_layers,
)
from gnuq.gradnorm.engine import gradient_factors, squared_gradient_norms
from gnuq.gradnorm.errors import UnsupportedModuleError
from gnuq.gradnorm.outcomes import GradientFactors, GradientNorms
from gnuq.gradnorm.rules import rule

__all__ = [
    "GradientFactors",
    "GradientNorms",
    "UnsupportedModuleError",
    "gradient_factors",
    "rule",
    "squared_gradient_norms",
]
