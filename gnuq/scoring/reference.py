"""The committed scores of a named model's own answers: what a new score is compared with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from gnuq import artefacts
from gnuq.language_models import Loaded
from gnuq.scoring.calibration import FEATURES, Calibration


@dataclass(frozen=True)
class Reference:
    """Percentiles of a model's scores, and what they are percentiles of."""

    calibration: Calibration
    of: str


def record_of(loaded: Loaded) -> str:
    """The name of the record that belongs to a model as loaded."""
    return f"scores/{loaded.name}-{loaded.quantisation or 'float32'}"


def find(loaded: Loaded) -> Reference | None:
    """The reference of a model, or None if nobody has made one.

    It holds for the weights in float32: half precision moves the norms themselves.
    """
    name = record_of(loaded)
    if name not in artefacts.names("records"):
        return None
    frame = artefacts.load("records", name)
    told = artefacts.provenance("records", name)
    of = f"its greedy answers to {len(frame)} {told['dataset']} questions"
    return Reference(_calibration(frame, loaded), of)


def _calibration(frame: pd.DataFrame, loaded: Loaded) -> Calibration:
    values = np.log(frame[list(FEATURES)].to_numpy())
    return Calibration(
        model_name=str(loaded.model.config._name_or_path),
        objective="mean_probability",
        reference={name: sorted(map(float, frame[name])) for name in FEATURES},
        coefficients=[],
        centre=values.mean(0).tolist(),
        spread=values.std(0).tolist(),
        held_out=[],
    )
