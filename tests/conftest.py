"""Every test starts from the same random state; models and inputs are in float64.

With GNUQ_SHAPES=1 the shapes and types in gnuq's annotations are checked at every call. Tests of
bad input must then be left out (-m "not bad_input"): the annotations would refuse it first.
"""

from __future__ import annotations

import os

import pytest
import torch

if os.environ.get("GNUQ_SHAPES") == "1":
    from jaxtyping import install_import_hook

    install_import_hook("gnuq", "beartype.beartype")

torch.set_default_dtype(torch.float64)  # before the test modules build their cases


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)
