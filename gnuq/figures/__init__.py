"""Tidy frame in, plotly figure out: nothing here computes what a table could hold."""

from gnuq.figures.gradients import gradient_bars, variance_curves
from gnuq.figures.maps import ALEATORIC_METHODS, EPISTEMIC_METHODS, agreement, uncertainty_maps
from gnuq.figures.tables import sensitivity, table_dots

__all__ = [
    "ALEATORIC_METHODS",
    "EPISTEMIC_METHODS",
    "agreement",
    "gradient_bars",
    "sensitivity",
    "table_dots",
    "uncertainty_maps",
    "variance_curves",
]
