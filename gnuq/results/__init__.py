"""One function per table or figure of the paper: records in, tidy frame out.

Every method is evaluated at the mode on the grid of the record, then correlated with the
record's reference over the grid. `gnuq.protocol` holds the settings.
"""

from gnuq.results.calibration import calibrate, calibration, calibration_table, scaled_norm
from gnuq.results.comparison import (
    by_method,
    compare,
    compared_experiments,
    cost_and_accuracy,
    method_means,
    method_table,
)
from gnuq.results.correlations import (
    ALEATORIC,
    EPISTEMIC,
    correlate,
    correlations,
    means,
    top_overlap,
    validate,
    validation,
)
from gnuq.results.methods import by_class, maps, point_estimates
from gnuq.results.overview import readings, table_1
from gnuq.results.references import convergence, reference, worst_convergence
from gnuq.results.sensitivity import advantage, basin_spread, sampling_noise
from gnuq.results.settings import problems, settings
from gnuq.results.tables import (
    ALEATORIC_LABELS,
    CLASS_LABELS,
    EPISTEMIC_LABELS,
    LABELS,
    chosen,
    multiclass_baselines,
    primary_experiments,
    readable,
    table,
    table_5,
    table_6,
    table_7,
    table_8,
    table_9,
)

__all__ = [
    "ALEATORIC",
    "ALEATORIC_LABELS",
    "CLASS_LABELS",
    "EPISTEMIC",
    "EPISTEMIC_LABELS",
    "LABELS",
    "advantage",
    "basin_spread",
    "by_class",
    "by_method",
    "calibrate",
    "calibration",
    "calibration_table",
    "chosen",
    "compare",
    "compared_experiments",
    "convergence",
    "correlate",
    "correlations",
    "cost_and_accuracy",
    "maps",
    "means",
    "method_means",
    "method_table",
    "multiclass_baselines",
    "point_estimates",
    "primary_experiments",
    "problems",
    "readable",
    "readings",
    "reference",
    "sampling_noise",
    "scaled_norm",
    "settings",
    "table",
    "table_1",
    "table_5",
    "table_6",
    "table_7",
    "table_8",
    "table_9",
    "top_overlap",
    "validate",
    "validation",
    "worst_convergence",
]
