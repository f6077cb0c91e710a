"""Numbers that the paper's text still holds, as printed; its column headers were lost.

Pairs stand in the order of the tables' two columns. We read them as (Pearson, Spearman); the
prose of §4.1.2 suggests the opposite for Table 10, so the book shows both readings.
"""

from __future__ import annotations

Pair = tuple[float, float]

#: Table 5, epistemic, binary: problem → comparison → pair.
TABLE_5: dict[str, dict[str, Pair]] = {
    "linear": {"gradient_norm": (0.95, 0.99), "laplace": (0.95, 0.99), "gn_laplace": (1.00, 1.00)},
    "xor": {"gradient_norm": (0.65, 0.68), "laplace": (0.68, 0.70), "gn_laplace": (0.94, 0.98)},
    "rings": {"gradient_norm": (0.86, 0.44), "laplace": (0.86, 0.46), "gn_laplace": (0.97, 1.00)},
}

#: Table 6, aleatoric, binary. The Laplace column's variant is not stated.
TABLE_6: dict[str, dict[str, Pair]] = {
    "linear": {"point": (0.99, 1.00), "laplace": (0.92, 0.97), "point_laplace": (0.88, 0.95)},
    "xor": {"point": (0.76, 0.74), "laplace": (0.08, 0.12), "point_laplace": (0.10, 0.11)},
    "rings": {"point": (0.95, 0.58), "laplace": (0.19, 0.11), "point_laplace": (0.19, 0.10)},
}
