"""The committed scores of a named model's own answers: what a new score is compared with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from gnuq import artefacts
from gnuq.language_models import Loaded
from gnuq.scoring.calibration import FEATURES, Calibration
from gnuq.scoring.weights import Weights

TITLES = {"truthfulqa": "TruthfulQA"}


@dataclass(frozen=True)
class Reference:
    """Percentiles of a model's scores, and what they are percentiles of."""

    calibration: Calibration
    of: str


def record_of(loaded: Loaded) -> str:
    """The name of the record that belongs to a model as loaded."""
    return f"scores/{loaded.name}-{loaded.quantisation or loaded.dtype}"


def find(loaded: Loaded) -> Reference | None:
    """The reference of a model in its present precision, or None if nobody has made one."""
    name = record_of(loaded)
    if not artefacts.exists("records", name):
        return None
    saved = artefacts.load("records", name)
    questions = str(saved.provenance["dataset"]).partition(" ")[0]
    of = f"its greedy answers to {len(saved.frame)} {TITLES.get(questions, questions)} questions"
    return Reference(_calibration(saved.frame, loaded), of)


def _calibration(frame: pd.DataFrame, loaded: Loaded) -> Calibration:
    values = np.log(frame[list(FEATURES)].to_numpy())
    return Calibration(
        model_name=loaded.name,
        fingerprint=Weights(loaded.model).fingerprint,
        objective="mean_probability",
        params="all",
        reference={name: sorted(values[:, k].tolist()) for k, name in enumerate(FEATURES)},
        coefficients=[],
        centre=values.mean(0).tolist(),
        spread=values.std(0).tolist(),
        held_out=[],
    )
