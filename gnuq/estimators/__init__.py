"""The paper's equations, one function each.

Decompositions of posterior draws, Eq. (1) and (2); the delta method, Eq. (3), for any
covariance; its isotropic case, Eq. (4), the paper's epistemic estimate; the aleatoric estimate,
Eq. (8); and the same for sequences, Eq. (9) and (10). Probabilities have no unit, so variances
and squared gradient norms of them have none either; entropies are in nats.
"""

from gnuq.estimators.decompositions import (
    Decomposition,
    entropy_decomposition,
    label_wise_decomposition,
)
from gnuq.estimators.delta import (
    ProbabilityNorms,
    aleatoric,
    aleatoric_second_order,
    delta_variance,
    epistemic,
)
from gnuq.estimators.links import log_odds, log_odds_of, predictions_from, select
from gnuq.estimators.sequences import (
    mean_probability,
    sequence_aleatoric,
    sequence_epistemic,
    token_probabilities,
)

__all__ = [
    "Decomposition",
    "ProbabilityNorms",
    "aleatoric",
    "aleatoric_second_order",
    "delta_variance",
    "entropy_decomposition",
    "epistemic",
    "label_wise_decomposition",
    "log_odds",
    "log_odds_of",
    "mean_probability",
    "predictions_from",
    "select",
    "sequence_aleatoric",
    "sequence_epistemic",
    "token_probabilities",
]
