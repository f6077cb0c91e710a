"""Every test starts from the same random state; models and inputs are in float64."""

from __future__ import annotations

import pytest
import torch

torch.set_default_dtype(torch.float64)  # before the test modules build their cases


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)
