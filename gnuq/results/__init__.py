"""One function per table or figure of the paper: records in, tidy frame out.

Every method is evaluated at the mode on the grid of the record, then correlated with the
record's reference over the grid. `gnuq.protocol` holds the settings.
"""

from gnuq.results.correlations import (
    ALEATORIC,
    EPISTEMIC,
    advantage,
    basin_spread,
    correlate,
    means,
    sampling_noise,
    validation,
)
from gnuq.results.methods import maps, point_estimates
from gnuq.results.references import convergence, reference, worst_convergence
from gnuq.results.tables import (
    ALEATORIC_LABELS,
    EPISTEMIC_LABELS,
    LABELS,
    primary_experiments,
    readable,
    settings,
    table,
    table_5,
    table_6,
)

__all__ = [
    "ALEATORIC",
    "ALEATORIC_LABELS",
    "EPISTEMIC",
    "EPISTEMIC_LABELS",
    "LABELS",
    "advantage",
    "basin_spread",
    "convergence",
    "correlate",
    "maps",
    "means",
    "point_estimates",
    "primary_experiments",
    "readable",
    "reference",
    "sampling_noise",
    "settings",
    "table",
    "table_5",
    "table_6",
    "validation",
    "worst_convergence",
]
