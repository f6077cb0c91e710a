r"""Proxy bias on text, Appendix A.1: a last-layer Laplace under the Fisher of either domain.

With two classes every gradient of the head $(W, b)$ points along $v = e_1 - e_0$: with
$\tilde\phi = (\phi, 1)$ the prediction's is $g = p(1-p)\, v \otimes \tilde\phi$ and that of
$\log p(y)$ is $(y-p)\, v \otimes \tilde\phi$. Since $\lVert v\rVert^2 = 2$, the $2(d+1)$
parameters reduce to $d+1$ without approximation:

$$
g^\top H^{-1} g = 2\,[p(1-p)]^2\;
\tilde\phi^\top \Bigl(2\sum_i c_i\,\tilde\phi_i\tilde\phi_i^\top + \lambda I\Bigr)^{-1}\tilde\phi,
$$

with one $c_i$ a proxy text. The log-ratio of two such variances does not contain $p$.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import product
from typing import Literal, get_args

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from scipy.linalg import cholesky, solve_triangular
from scipy.special import expit

FisherKind = Literal["expected", "sampled", "observed"]
Reduction = Literal["sum", "mean"]
Proxies = Literal["training", "fresh"]
Values = Float[np.ndarray, " texts"]

DOMAINS = ("science", "sports")
#: Proxy texts of either domain; random splits of the control.
PROXIES, SPLITS = 200, 10
WEIGHT_DECAY = 0.01


@dataclass(frozen=True)
class Variant:
    """What the paper's text leaves open about H.

    Attributes:
        fisher: whose labels the Fisher has: the model's own distribution in expectation, one label
            drawn from it, or the true ones.
        reduction: sum or mean over the proxy texts.
        prior_precision: λ.
        proxies: texts of the training set (`training`), or others of the same time (`fresh`).
    """

    fisher: FisherKind
    reduction: Reduction
    prior_precision: float
    proxies: Proxies


#: Fixed before the first run: as §A.1 reads most plainly.
PRIMARY = Variant("expected", "sum", WEIGHT_DECAY, "training")
#: The weight decay, a unit prior, and the decay times the 800 training texts, which is the
#: precision that a penalty of that size on the *mean* loss stands for.
PRIOR_PRECISIONS = (WEIGHT_DECAY, 1.0, 800 * WEIGHT_DECAY)
VARIANTS = tuple(
    Variant(fisher, reduction, prior_precision, proxies)
    for fisher, reduction, prior_precision, proxies in product(
        get_args(FisherKind), get_args(Reduction), PRIOR_PRECISIONS, get_args(Proxies)
    )
)


@dataclass(frozen=True)
class LastLayer:
    """A two-class head and its inputs.

    Attributes:
        features: φ of every text, float64.
        weight: W, one row a class.
        bias: b.
        texts: one row a text: id, category, domain and role (`newsgroups.choose`).
    """

    features: Float[np.ndarray, "texts features"]
    weight: Float[np.ndarray, "classes features"]
    bias: Float[np.ndarray, " classes"]
    texts: pd.DataFrame

    @property
    def extended(self) -> Float[np.ndarray, "texts extended"]:
        """φ with a one for the bias, φ̃."""
        return np.hstack([self.features, np.ones((len(self.features), 1))])

    @property
    def logit(self) -> Values:
        """Logit of p, the probability of the second class, sports."""
        return self.features @ (self.weight[1] - self.weight[0]) + (self.bias[1] - self.bias[0])

    @property
    def targets(self) -> Values:
        """The true classes: 0 science, 1 sports."""
        return (self.texts["domain"] == DOMAINS[1]).to_numpy(float)

    @property
    def test(self) -> Int[np.ndarray, " chosen"]:
        """The rows of the test texts."""
        return np.flatnonzero(self.texts["role"] == "test")

    def proxies(self, role: str) -> list[Int[np.ndarray, " chosen"]]:
        """The rows of the first `PROXIES` texts of each domain that have a role."""
        there = self.texts["role"] == role
        domains = [np.flatnonzero(there & (self.texts["domain"] == name)) for name in DOMAINS]
        return [rows[:PROXIES] for rows in domains]


def label_weights(
    logit: Values, targets: Values, kind: FisherKind, generator: np.random.Generator
) -> Values:
    """c_i, the Fisher's weight of each proxy text: the (mean) square of y − p.

    Args:
        logit: of the second class.
        targets: the true classes, 0 or 1; read by `observed`.
        kind: `expected` averages over y ~ p, which gives p(1 − p); `sampled` draws one y from it.
        generator: of the draw.
    """
    p, q = expit(logit), expit(-logit)
    if kind == "expected":
        return p * q
    second = generator.random(len(logit)) < p if kind == "sampled" else targets == 1
    return np.where(second, q, p) ** 2


def quadratic_form(
    queries: Float[np.ndarray, "queries extended"],
    proxies: Float[np.ndarray, "proxies extended"],
    weights: Float[np.ndarray, " proxies"],
    variant: Variant,
) -> Float[np.ndarray, " queries"]:
    """φ̃ᵀ(2 Σ_i c_i φ̃_i φ̃_iᵀ + λI)⁻¹φ̃ for each query, by a Cholesky factor.

    Args:
        queries: φ̃ of the texts that are judged.
        proxies: φ̃_i.
        weights: c_i.
        variant: its reduction and λ.

    Raises:
        ValueError: λ is not positive.
    """
    if not variant.prior_precision > 0:
        raise ValueError(f"variant: prior_precision is {variant.prior_precision}; it must be > 0.")
    scale = 2.0 if variant.reduction == "sum" else 2.0 / len(proxies)
    curvature = scale * (proxies.T * weights) @ proxies
    damped = curvature + variant.prior_precision * np.eye(len(curvature))
    half = solve_triangular(cholesky(damped, lower=True), queries.T, lower=True)
    return (half**2).sum(axis=0)


def _forms(
    layer: LastLayer, weights: Values, variant: Variant, rows: Int[np.ndarray, " chosen"]
) -> Float[np.ndarray, " tests"]:
    """`quadratic_form` of the test texts for the proxies in some rows."""
    extended = layer.extended
    return quadratic_form(extended[layer.test], extended[rows], weights[rows], variant)


def _mixed_halves(
    layer: LastLayer, variant: Variant, generator: np.random.Generator
) -> list[Int[np.ndarray, " chosen"]]:
    """Two sets of proxies that differ by chance alone: half of either domain's in each."""
    shuffled = [generator.permutation(rows) for rows in layer.proxies(variant.proxies)]
    halves = [np.array_split(rows, 2) for rows in shuffled]
    return [np.concatenate(parts) for parts in zip(*halves, strict=True)]


def variances(layer: LastLayer, variant: Variant, seed: int) -> pd.DataFrame:
    """The test texts' variance of p under I and under either domain's Fisher.

    Args:
        layer: the head, and features of training, fresh and test texts.
        variant: how H is made.
        seed: of drawn labels and of the control's halves.

    Returns:
        One row a test text: id, category, domain, p (of sports), correct; identity, science and
        sports, the variances; log_ratio, log(science / sports); control, the same log-ratio with
        two mixed halves of both domains' proxies in their place.
    """
    generator, logit, test = np.random.default_rng(seed), layer.logit, layer.test
    weights = label_weights(logit, layer.targets, variant.fisher, generator)
    halves = _mixed_halves(layer, variant, generator)
    science, sports, first, second = (
        _forms(layer, weights, variant, rows) for rows in (*layer.proxies(variant.proxies), *halves)
    )
    squared = 2 * (expit(logit[test]) * expit(-logit[test])) ** 2
    return layer.texts.iloc[test][["id", "category", "domain"]].assign(
        p=expit(logit[test]),
        correct=(logit[test] > 0) == (layer.targets[test] == 1),
        identity=squared * (layer.extended[test] ** 2).sum(axis=1),
        science=squared * science,
        sports=squared * sports,
        log_ratio=np.log(science / sports),
        control=np.log(first / second),
    )


def controls(layer: LastLayer, seed: int, variants: Sequence[Variant] = VARIANTS) -> pd.DataFrame:
    """What the log-ratio does between two sets of proxies that differ by chance alone.

    Args:
        layer: as for `variances`.
        seed: as there; the first split is that of its column control.
        variants: what to vary.

    Returns:
        One row per variant and split: seed, split, the variant; cohens_d, sports minus science,
        and gap, the difference of the domains' medians.
    """
    rows, sports = [], layer.targets[layer.test] == 1
    for variant in variants:
        generator = np.random.default_rng(seed)
        weights = label_weights(layer.logit, layer.targets, variant.fisher, generator)
        for split in range(SPLITS):
            pair = _mixed_halves(layer, variant, generator)
            found = np.log(np.divide(*(_forms(layer, weights, variant, half) for half in pair)))
            gap = float(np.median(found[sports]) - np.median(found[~sports]))
            values = {"cohens_d": float(cohens_d(found[~sports], found[sports])), "gap": gap}
            rows.append({"seed": seed, "split": split} | asdict(variant) | values)
    return pd.DataFrame(rows)


def cohens_d(
    first: Float[np.ndarray, "*draws texts"], second: Float[np.ndarray, "*draws others"]
) -> Float[np.ndarray, "*draws"]:
    """Cohen's d of second over first: difference of means over the pooled standard deviation."""
    n, m = first.shape[-1], second.shape[-1]
    spread = (n - 1) * first.var(axis=-1, ddof=1) + (m - 1) * second.var(axis=-1, ddof=1)
    difference = second.mean(axis=-1) - first.mean(axis=-1)
    return np.asarray(difference / np.sqrt(spread / (n + m - 2)))


def per_text(layer: LastLayer, seed: int, variants: Sequence[Variant] = VARIANTS) -> pd.DataFrame:
    """The record's rows of one seed: `variances` under every variant.

    Args:
        layer: as for `variances`.
        seed: of the fine-tuning, kept as a column.
        variants: what to vary.
    """
    parts = [variances(layer, one, seed).assign(seed=seed, **asdict(one)) for one in variants]
    return pd.concat(parts, ignore_index=True)
