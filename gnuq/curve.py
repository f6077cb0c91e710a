"""The settings of the curve (§4.1.2, Appendix F.2.4), frozen before the runs.

Nine widths of the paper's network on the four rings. The *study* runs all of them under two
priors; the *sweep* changes one setting at a time on the smaller ones, with fewer draws and a
coarser grid, to see which of them decides the curve. A run is *open* until its record is there:
`python -m gnuq record NAME` begins it, or goes on where it was cut off.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from gnuq import artefacts, protocol
from gnuq.networks import Activated, Prior
from gnuq.posteriors.settings import StreamedHMC
from gnuq.problems import Grid, Problem, make_grid, make_problem

PROBLEM = "rings-4"
#: Units in each of two hidden layers; 0 is softmax regression. The paper's last is 1028.
WIDTHS = (0, 8, 16, 32, 64, 128, 256, 512, 1028)
#: The study's: the protocol's two, then those under which the sweep changes the prior alone.
PRIORS = {
    "unit-1": Prior(1.0),
    "fan-in": Prior(1 / 2.25, "fan_in"),
    "unit-0.1": Prior(0.1),
    "unit-0.2": Prior(0.2),
    "unit-0.3": Prior(0.3),
    "unit-5": Prior(5.0),
}
STUDIED, SWEPT_PRIORS = tuple(PRIORS)[:2], tuple(PRIORS)[2:]
SEEDS = (0, 1, 2)
#: All data seeds up to this width; beyond it all under fan-in and the first under the unit prior,
#: whose chains take ten times as long.
SEVERAL = 256

BASE = "base"
#: What the sweep changes, one at a time: the fields of `Run` that differ from the study's.
VARIANTS: dict[str, dict] = {
    BASE: {},
    "points-100": {"points": 100},
    "points-1600": {"points": 1600},
    "noise-0.15": {"noise": 0.15},
    "noise-0.4": {"noise": 0.4},
    "gelu": {"activation": "gelu"},
    "gap": {"problem": "rings-4-gap"},
}
#: The sweep's widths, and those at which other precisions of the prior have all data seeds.
SWEPT, SURE = WIDTHS[:6], WIDTHS[1:4]


@dataclass(frozen=True)
class Run:
    """One posterior of the study or of the sweep.

    Attributes:
        width: units per hidden layer.
        prior_name: a key of `PRIORS`.
        seed: the data seed.
        variant: a key of `VARIANTS`.
    """

    width: int
    prior_name: str = protocol.PRIMARY
    seed: int = 0
    variant: str = BASE

    def __post_init__(self) -> None:
        for name, known in (("prior_name", PRIORS), ("variant", VARIANTS)):
            if getattr(self, name) not in known:
                raise ValueError(f"{name}: {getattr(self, name)!r}; one of {', '.join(known)}.")

    @property
    def sweep(self) -> bool:
        """Whether it has the sweep's grid and draws."""
        return self.variant != BASE or self.prior_name in SWEPT_PRIORS

    @property
    def problem(self) -> Problem:
        """The data."""
        changed = VARIANTS[self.variant]
        points = changed.get("points", protocol.POINTS)
        name, noise = changed.get("problem", PROBLEM), changed.get("noise")
        return make_problem(name, points=points, noise=noise, seed=self.seed)

    @property
    def architecture(self) -> Activated:
        """The network."""
        activation = VARIANTS[self.variant].get("activation", "tanh")
        return Activated(2, (self.width, self.width) if self.width else (), 4, activation)

    @property
    def prior(self) -> Prior:
        """The prior over the weights."""
        return PRIORS[self.prior_name]

    @property
    def grid(self) -> Grid:
        """Where predictions are kept: every point is checked for convergence."""
        return make_grid(self.problem, resolution=24 if self.sweep else 36, margin=protocol.MARGIN)

    @property
    def sampler(self) -> StreamedHMC:
        """The sampler's settings: a seed of its own, and fewer draws where a step costs more."""
        if self.sweep:
            draws = 1000 if self.width <= 32 else 600
        else:
            draws = 2000 if self.width <= 32 else 1000 if self.width <= 128 else 800
        return StreamedHMC(draws=draws, burn_in=200, seed=zlib.crc32(self.name.encode()))

    @property
    def batch(self) -> int:
        """Draws that are made in one go: minutes at most."""
        return 100 if self.width <= 128 else 20 if self.width <= 512 else 5

    @property
    def name(self) -> str:
        """Name of its record."""
        return f"curve/{self.variant}/{self.prior_name}/width-{self.width}/seed-{self.seed}"


def study() -> Iterator[Run]:
    """The runs of Table 10 and Figure 3, in the order of their cost."""
    for width in WIDTHS:
        for prior in reversed(STUDIED):
            several = width <= SEVERAL or prior != protocol.PRIMARY
            for seed in SEEDS if several else SEEDS[:1]:
                yield Run(width, prior, seed)


def sweep() -> Iterator[Run]:
    """The runs that change one setting; what they are compared with is the study's own."""
    for width in SWEPT:
        for prior in reversed(STUDIED):
            for variant in VARIANTS:
                if variant != BASE and not (width == 0 and "activation" in VARIANTS[variant]):
                    yield Run(width, prior, variant=variant)
        for prior in SWEPT_PRIORS:
            for seed in SEEDS if width in SURE else SEEDS[:1]:
                yield Run(width, prior, seed)


def runs() -> dict[str, Run]:
    """Every run by the name of its record."""
    return {run.name: run for run in (*study(), *sweep())}


def recorded() -> dict[str, Run]:
    """The runs whose record is there."""
    there = artefacts.ROOT / "data" / "records"
    return {name: run for name, run in runs().items() if (there / f"{name}.json").exists()}
