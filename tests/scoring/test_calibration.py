"""From scores to a probability of being wrong, and to a percentile."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from gnuq.scoring import Calibration, Scores, calibrate
from gnuq.scoring.calibration import CalibrationError
from gnuq.scoring.examples import Example
from gnuq.scoring.weights import Weights
from tests import tiny


def scores(
    epistemic: np.ndarray,
    model: str = "m",
    objective: str = "mean_probability",
    params: str = "all",
) -> Scores:
    count = len(epistemic)
    return Scores(
        objective=objective,
        params=params,
        model_name=model,
        weights_read=SimpleNamespace(fingerprint=model),
        by_parameter=pd.DataFrame({"w": epistemic}),
        log_epistemic=np.log(epistemic, where=epistemic > 0, out=np.full(count, -np.inf)),
        token_probabilities=[np.array([0.5])] * count,
        aleatoric=np.full(count, 0.25),
        mean_log_probability=np.full(count, np.log(0.5)),
        examples=[Example((1,), (2,))] * count,
    )


def sample(count: int, seed: int = 0) -> tuple[Scores, np.ndarray]:
    """Answers that are wrong with probability logistic(1.5 x), x the standardised logarithm."""
    random = np.random.default_rng(seed)
    x = random.normal(size=count)
    correct = random.uniform(size=count) > 1 / (1 + np.exp(-1.5 * x))
    return scores(np.exp(2 * x - 7)), correct


def test_it_recovers_the_probability_that_made_the_labels() -> None:
    found = calibrate(*sample(4000))
    x = np.array([-1.0, 0.0, 1.0])
    wrong = found.probability_wrong(scores(np.exp(2 * x - 7)))
    np.testing.assert_allclose(wrong, 1 / (1 + np.exp(-1.5 * x)), atol=0.03)


def test_the_reliability_curve_is_held_out_and_near_the_diagonal() -> None:
    found = calibrate(*sample(4000))
    curve = found.reliability(bins=8)
    assert curve["count"].sum() == 4000
    assert curve.predicted.is_monotonic_increasing
    assert (curve.low <= curve.observed).all()
    assert (curve.observed <= curve.high).all()
    np.testing.assert_allclose(curve.predicted, curve.observed, atol=0.06)


def test_labels_without_information_give_the_base_rate() -> None:
    values, _ = sample(2000)
    labels = np.random.default_rng(1).uniform(size=2000) < 0.7
    wrong = calibrate(values, labels).probability_wrong(values)
    np.testing.assert_allclose(wrong, 1 - labels.mean(), atol=0.06)


def test_percentiles_without_labels() -> None:
    found = calibrate(scores(np.arange(1.0, 101.0)))
    share = found.percentile(scores(np.array([0.5, 50.5, 1000.0])))
    np.testing.assert_allclose(share, [0, 50, 100])
    np.testing.assert_allclose(found.percentile(scores(np.array([7.0])), "aleatoric"), [50])
    with pytest.raises(CalibrationError, match="labels: this calibration has none"):
        found.probability_wrong(scores(np.array([1.0])))
    with pytest.raises(CalibrationError, match="labels: this calibration has none"):
        found.reliability()
    with pytest.raises(CalibrationError, match="feature: 'length' is none of"):
        found.percentile(scores(np.array([1.0])), "length")


def test_saved_and_loaded_it_is_the_same(tmp_path: Path) -> None:
    found = calibrate(*sample(200))
    found.save(tmp_path / "c.json")
    assert Calibration.load(tmp_path / "c.json") == found
    assert [p.name for p in tmp_path.iterdir()] == ["c.json"]


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"format": 1}', "NaN", "[" * 9**5])
def test_a_file_that_is_no_calibration(tmp_path: Path, content: str) -> None:
    (tmp_path / "c.json").write_text(content)
    with pytest.raises(CalibrationError, match="is no calibration of this version"):
        Calibration.load(tmp_path / "c.json")


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match="there is no"):
        Calibration.load(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        ([1, 0, 1], r"labels: shape \(3,\) for 20 answers"),
        ([2] * 20, "must be True"),
        ([None] * 20, "must be True"),
        ([1] * 20, "20 correct and 0 wrong answers; give at least 5 of each"),
        ([1] * 18 + [0] * 2, "18 correct and 2 wrong"),
    ],
)
def test_labels_that_cannot_be_fitted(labels: list, told: str) -> None:
    with pytest.raises(CalibrationError, match=told):
        calibrate(sample(20)[0], labels)


def test_scores_of_another_model_are_refused() -> None:
    found = calibrate(*sample(200))
    with pytest.raises(CalibrationError, match="their fingerprint is other"):
        found.percentile(scores(np.array([1.0]), model="other"))
    with pytest.raises(CalibrationError, match="token_average"):
        found.probability_wrong(scores(np.array([1.0]), objective="token_average"))
    with pytest.raises(CalibrationError, match="their params is autograd"):
        found.probability_wrong(scores(np.array([1.0]), params="autograd"))


def test_the_same_model_in_another_precision_is_another_model() -> None:
    wide, narrow = tiny.model("llama", torch.float32), tiny.model("llama", torch.float32).bfloat16()
    assert Weights(wide).fingerprint == Weights(tiny.model("llama", torch.float32)).fingerprint
    assert Weights(wide).fingerprint != Weights(narrow).fingerprint
    assert Weights(wide).fingerprint != Weights(tiny.model("llama", torch.float32, 1)).fingerprint


def test_folders_are_no_files(tmp_path: Path) -> None:
    found = calibrate(*sample(200))
    for path in (tmp_path, tmp_path / "none" / "c.json"):
        with pytest.raises(CalibrationError, match="cannot be written"):
            found.save(path)
    with pytest.raises(CalibrationError, match="cannot be read"):
        Calibration.load(tmp_path)
    assert not list(tmp_path.iterdir())
    with pytest.raises(CalibrationError, match="bins: 0"):
        found.reliability(0)


@pytest.mark.parametrize("bad", [0.0, -1.0, np.nan, np.inf])
def test_a_score_without_a_logarithm(bad: float) -> None:
    with pytest.raises(CalibrationError, match="answer 1 has a score"):
        calibrate(scores(np.array([1.0, bad])))


TAMPERED = {
    "its reference is empty or not sorted": lambda told: told["reference"]["epistemic"].reverse(),
    "does not hold as many": lambda told: told["reference"]["aleatoric"].pop(),
    "its spread is not positive": lambda told: told["spread"].__setitem__(0, 0.0),
    "another number of features": lambda told: told["centre"].pop(),
    "another number of coefficients": lambda told: told["coefficients"].pop(),
    "one prediction for each answer": lambda told: told["held_out"].pop(),
    "no probabilities": lambda told: told["held_out"].__setitem__(0, [1.5, 1]),
    "nor|neither 0 nor 1": lambda told: told["held_out"].__setitem__(0, [0.5, 2]),
    "are not finite": lambda told: told["centre"].__setitem__(0, 1e999),
}


@pytest.mark.parametrize("told", TAMPERED)
def test_an_edited_calibration_is_refused(tmp_path: Path, told: str) -> None:
    """By its checksum; and with a checksum of its own, by what no sample can have given."""
    path = tmp_path / "c.json"
    calibrate(*sample(200)).save(path)
    content = json.loads(path.read_text())
    TAMPERED[told](content)
    path.write_text(json.dumps(content))
    with pytest.raises(CalibrationError, match="was changed after it was saved|no calibration"):
        Calibration.load(path)
    del content["format"], content["sha256"]
    with pytest.raises(CalibrationError, match=rf"{told}.*fit it anew"):
        Calibration(**content)


@pytest.mark.parametrize("number", ["NaN", "Infinity"])
def test_a_file_with_what_is_no_number(tmp_path: Path, number: str) -> None:
    path = tmp_path / "c.json"
    calibrate(*sample(200)).save(path)
    content = json.loads(path.read_text())
    content["spread"][0] = float(number)
    path.write_text(json.dumps(content))
    with pytest.raises(CalibrationError, match="is no calibration of this version"):
        Calibration.load(path)


def test_a_file_of_the_first_format_says_why(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    calibrate(*sample(200)).save(path)
    path.write_text(path.read_text().replace('"format": 2', '"format": 1'))
    with pytest.raises(CalibrationError, match="of format 1, whose fingerprints saw less"):
        Calibration.load(path)


def test_scores_too_small_for_a_float_are_calibrated_by_their_logarithm() -> None:
    """Norms of joint probabilities from e^-1800 to e^-900: all nought as floats."""
    random = np.random.default_rng(0)
    log = random.uniform(-1800, -900, 400)
    small = dataclasses.replace(scores(np.zeros(400)), log_epistemic=log)
    labels = log < -1350
    found = calibrate(small, labels)
    assert ((found.probability_wrong(small) > 0.5) == ~labels).mean() > 0.95
    np.testing.assert_allclose(np.sort(found.percentile(small)), (np.arange(400) + 0.5) / 4)
