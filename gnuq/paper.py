"""Numbers that the paper's text still holds, as printed; its column headers were lost.

Pairs stand in the order of the tables' two columns. We read them as (Pearson, Spearman); the
prose of §4.1.2 suggests the opposite for Table 10, so the book shows both readings.
"""

from __future__ import annotations

Pair = tuple[float, float]

#: A table of correlations: problem → comparison → pair.
Table = dict[str, dict[str, Pair]]

#: Table 5, epistemic, binary.
TABLE_5: Table = {
    "linear": {"gradient_norm": (0.95, 0.99), "laplace": (0.95, 0.99), "gn_laplace": (1.00, 1.00)},
    "xor": {"gradient_norm": (0.65, 0.68), "laplace": (0.68, 0.70), "gn_laplace": (0.94, 0.98)},
    "rings": {"gradient_norm": (0.86, 0.44), "laplace": (0.86, 0.46), "gn_laplace": (0.97, 1.00)},
}

#: Table 6, aleatoric, binary. The Laplace column's variant is not stated.
TABLE_6: Table = {
    "linear": {"point": (0.99, 1.00), "laplace": (0.92, 0.97), "point_laplace": (0.88, 0.95)},
    "xor": {"point": (0.76, 0.74), "laplace": (0.08, 0.12), "point_laplace": (0.10, 0.11)},
    "rings": {"point": (0.95, 0.58), "laplace": (0.19, 0.11), "point_laplace": (0.19, 0.10)},
}

#: Table 7, epistemic, several classes, gradient norm against MCMC: problem → class → pair. The
#: text speaks of three classes, the table lists four.
TABLE_7: Table = {
    "clusters-4": {
        "0": (0.88, 0.98),
        "1": (0.86, 0.96),
        "2": (0.85, 0.96),
        "3": (0.87, 0.98),
        "overall": (0.86, 0.97),
    },
    "spirals-4": {
        "0": (0.82, 0.92),
        "1": (0.79, 0.91),
        "2": (0.72, 0.88),
        "3": (0.72, 0.93),
        "overall": (0.76, 0.91),
    },
    "rings-4": {
        "0": (0.92, 0.88),
        "1": (0.90, 0.96),
        "2": (0.88, 0.95),
        "3": (0.89, 0.95),
        "overall": (0.88, 0.97),
    },
}

#: Table 8, aleatoric, several classes, point estimate against MCMC.
TABLE_8: Table = {
    "clusters-4": {
        "0": (0.95, 1.00),
        "1": (0.95, 0.99),
        "2": (0.95, 0.99),
        "3": (0.95, 0.99),
        "overall": (0.95, 0.99),
    },
    "spirals-4": {
        "0": (0.96, 0.98),
        "1": (0.95, 0.98),
        "2": (0.97, 0.96),
        "3": (0.96, 0.97),
        "overall": (0.96, 0.97),
    },
    "rings-4": {
        "0": (0.99, 0.89),
        "1": (0.98, 0.97),
        "2": (0.95, 0.97),
        "3": (0.95, 0.97),
        "overall": (0.96, 0.98),
    },
}

#: Table 9, regression. The eigenvalues' range and ratio are lost.
TABLE_9: Table = {
    "line": {"gradient_norm": (0.98, 0.99), "laplace": (1.00, 1.00)},
    "wave": {"gradient_norm": (0.73, 0.81), "laplace": (0.93, 0.97)},
}
