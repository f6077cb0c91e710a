"""What the figures of §4.2 draw, from the joined table, light enough for a page."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from sklearn.metrics import roc_curve

from gnuq.qa import selective
from gnuq.qa.columns import DIRECTION, features, labels, uncertainty
from gnuq.qa.discrimination import auroc
from gnuq.qa.evaluation import METHODS, for_each

#: Scores of the curves; the others are in the tables.
CURVES = ("p_true", "semantic_entropy", "aleatoric", "epistemic", "length", "mean_probability")
#: Scores that span decades.
LOGARITHMIC = ("epistemic", "length_free")
#: Points that a curve keeps; a page shows no more.
POINTS = 60
#: Decimals of a coordinate: finer than a pixel.
DECIMALS = 4
#: Risk among fewer answers than this is noise.
LEAST = 10
#: Fitted probabilities that the reliability diagram shows: label → method.
FITTED = {
    "Epi. & alea., fitted": "Epi. & alea.",
    "Mean probability, fitted": "Mean probability",
    "P(True), fitted": "P(True)",
}


def roc(table: pd.DataFrame) -> pd.DataFrame:
    """ROC curves of raw scores: how many wrong answers are caught for how many correct suspected.

    Args:
        table: the joined table.

    Returns:
        model, benchmark, score, suspected, caught, auroc; nothing for a run in which all answers
        are correct, or none.
    """

    def of(part: pd.DataFrame) -> pd.DataFrame:
        correct, found = labels(part), []
        for name in CURVES if 0 < correct.mean() < 1 else ():
            score = uncertainty(part, name)
            suspected, caught, _ = roc_curve(~correct, score)
            kept = _spread(len(suspected))
            curve = pd.DataFrame({"suspected": suspected[kept], "caught": caught[kept]})
            curve = curve.round(DECIMALS)
            found.append(curve.assign(score=name, auroc=auroc(correct, -score)))
        return pd.concat(found, ignore_index=True) if found else pd.DataFrame()

    return for_each(table, of)


def coverage(table: pd.DataFrame) -> pd.DataFrame:
    """Risk–coverage curves of raw scores, and of the labels as the best possible score.

    Args:
        table: the joined table.

    Returns:
        model, benchmark, score, coverage, risk.
    """

    def of(part: pd.DataFrame) -> pd.DataFrame:
        correct, found = labels(part), []
        scores = {name: uncertainty(part, name) for name in CURVES} | {"oracle": 1.0 - correct}
        for name, score in scores.items():
            curve = selective.risk_coverage(correct, score).iloc[LEAST - 1 :]
            kept = curve.iloc[_spread(len(curve))].round(DECIMALS)
            found.append(kept.assign(score=name))
        return pd.concat(found, ignore_index=True)

    return for_each(table, of)


def _spread(count: int) -> np.ndarray:
    """At most `POINTS` of so many places, the first and the last among them."""
    return np.unique(np.linspace(0, count - 1, POINTS).round().astype(int))


def reliabilities(table: pd.DataFrame) -> pd.DataFrame:
    """Reliability of cross-fitted probabilities of being correct, and of P(True) as it stands.

    Args:
        table: the joined table.

    Returns:
        model, benchmark, fit, and what `selective.reliability` returns; no fit for a run with fewer
        than two correct or two wrong answers.
    """

    def of(part: pd.DataFrame) -> pd.DataFrame:
        told = {name: selective.crossfitted(part, METHODS[of]) for name, of in FITTED.items()}
        told["P(True), as it stands"] = features(part, ("p_true",))[:, 0]
        found = [
            selective.reliability(labels(part), values).assign(fit=name)
            for name, values in told.items()
            if not np.isnan(values).any()
        ]
        return pd.concat(found, ignore_index=True)

    return for_each(table, of)


def distributions(table: pd.DataFrame, count: int = 24) -> pd.DataFrame:
    """Histograms of every score among correct and among wrong answers, in the same bins.

    Args:
        table: the joined table.
        count: of bins between a score's smallest and largest value, equally wide.

    Returns:
        model, benchmark, score, correct, value (a bin's left end, its logarithm to base ten if
        `logarithmic`; the last is the right end, with share 0), share, answers, auroc, logarithmic.
    """

    def of(part: pd.DataFrame) -> pd.DataFrame:
        correct = labels(part)
        found = [
            _histogram(values[correct == label], edges).assign(
                score=name,
                correct=label,
                auroc=auroc(correct, -uncertainty(part, name)),
                logarithmic=name in LOGARITHMIC,
            )
            for name, values, edges in _binned(part, count)
            for label in (True, False)
        ]
        return pd.concat(found, ignore_index=True)

    return for_each(table, of)


def _binned(part: pd.DataFrame, count: int) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Each score, its values and the edges of its bins."""
    for name in DIRECTION:
        column = f"log_{name}" if name in LOGARITHMIC else name
        values = features(part, (column,))[:, 0]
        values = values / np.log(10) if name in LOGARITHMIC else values
        yield name, values, np.histogram_bin_edges(values, count)


def _histogram(values: np.ndarray, edges: np.ndarray) -> pd.DataFrame:
    counts = np.append(np.histogram(values, edges)[0], 0)
    share = counts / max(1, len(values))
    found = pd.DataFrame({"value": edges, "share": share}).round(DECIMALS)
    return found.assign(answers=len(values))


def within_length(table: pd.DataFrame, resamples: int = 200, seed: int = 0) -> pd.DataFrame:
    """AUROC over all pairs and over pairs of equally long answers, with intervals.

    The estimate of the latter is `gnuq.qa.discrimination.given_length`; the interval resamples the
    answers, each pair counting as often as both of its answers were drawn.

    Args:
        table: the joined table.
        resamples: of the answers.
        seed: of the resamples.

    Returns:
        model, benchmark, score, value, low, high (95 %), pairs; NaN where there is no pair.
    """
    generator = np.random.default_rng(seed)

    def of(part: pd.DataFrame) -> pd.DataFrame:
        first, second = _equally_long(part)
        shares = np.full(len(part), 1 / len(part))
        drawn = np.vstack([np.ones(len(part)), generator.multinomial(len(part), shares, resamples)])
        weights = drawn[:, first] * drawn[:, second]
        rows = []
        for name in DIRECTION:
            score = uncertainty(part, name)
            concordant = (1 + np.sign(score[second] - score[first])) / 2
            with np.errstate(invalid="ignore"):  # no pair, or none drawn: undefined
                found = weights @ concordant / weights.sum(1)
            low, high = np.nanquantile(found[1:], [0.025, 0.975]) if len(first) else (np.nan,) * 2
            rows.append((name, found[0], low, high, len(first)))
        return pd.DataFrame(rows, columns=["score", "value", "low", "high", "pairs"])

    return for_each(table, of)


def _equally_long(part: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Places of the correct and of the wrong answer of every pair of equal length."""
    correct, length = labels(part), features(part, ("length",))[:, 0]
    right, wrong = np.flatnonzero(correct), np.flatnonzero(~correct)
    one, other = np.nonzero(length[right][:, None] == length[wrong])
    return right[one], wrong[other]
