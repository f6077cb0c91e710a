"""Joined tables made up for the tests: labels with a known relation to the scores."""

from __future__ import annotations

import numpy as np
import pandas as pd


def joined(
    count: int = 400, model: str = "m", benchmark: str = "b", signal: float = 1.0, seed: int = 0
) -> pd.DataFrame:
    """Answers that are correct with probability logistic(−signal · z), z behind every score."""
    random = np.random.default_rng(seed)
    z = random.normal(size=count)
    noisy = z[:, None] + random.normal(size=(count, 8))
    return pd.DataFrame(
        {
            "model": model,
            "benchmark": benchmark,
            "id": [str(i) for i in range(count)],
            "correct": random.uniform(size=count) < 1 / (1 + np.exp(signal * z)),
            "p_true": 1 / (1 + np.exp(noisy[:, 0])),
            "semantic_entropy": np.exp(noisy[:, 1]),
            "discrete_semantic_entropy": np.round(np.exp(noisy[:, 2]), 1),
            "naive_entropy": np.exp(noisy[:, 3]),
            "aleatoric": 0.25 / (1 + np.exp(-noisy[:, 4])),
            "epistemic": np.exp(noisy[:, 5]),
            "relative": np.exp(noisy[:, 5]) / 100,
            "scale_free": np.exp(noisy[:, 5]) * 100,
            "length_free": np.exp(noisy[:, 6]),
            "length": random.integers(1, 12, size=count),
            "mean_probability": 1 / (1 + np.exp(noisy[:, 7])),
            "mean_log_probability": -np.exp(noisy[:, 7]),
        }
    )
