"""The settings of the scaling study (§4.1.2, Appendix F.2.4), frozen before the runs.

Nine widths of the paper's network on the four rings. The *study* runs all of them under two
priors; the *sweep* changes one setting at a time on the smaller ones, with fewer draws, to see
which of them decides the curve. A run that no machine has finished yet is *open*: its chains stand
in `data/checkpoints`, and `python -m gnuq record NAME` goes on with them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from gnuq import protocol
from gnuq.networks import Activated, Prior
from gnuq.posteriors.settings import HMC
from gnuq.problems import Grid, Problem, make_grid, make_problem

PROBLEM = "rings-4"
#: Units in each of two hidden layers; 0 is softmax regression. The paper's last is 1028.
WIDTHS = (0, 8, 16, 32, 64, 128, 256, 512, 1028)
PRIORS = (protocol.PRIMARY, "fan-in")
SEEDS = (0, 1, 2)
#: Several data seeds and MAP seeds up to this width, the first of each beyond.
SEVERAL = 128
MAP_SEEDS = protocol.MAP_SEEDS

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
#: Under these priors the sweep changes the prior alone.
OTHER_PRIORS = ("unit-0.1", "unit-5")
SWEPT = WIDTHS[:6]


@dataclass(frozen=True)
class Run:
    """One posterior of the study or of the sweep.

    Attributes:
        width: units per hidden layer.
        prior_name: a key of `protocol.PRIORS`.
        seed: the data seed.
        variant: a key of `VARIANTS`.
        sweep: whether it has the sweep's grid and draws.
    """

    width: int
    prior_name: str = protocol.PRIMARY
    seed: int = 0
    variant: str = BASE
    sweep: bool = False

    def __post_init__(self) -> None:
        for name, known in (("prior_name", protocol.PRIORS), ("variant", VARIANTS)):
            if getattr(self, name) not in known:
                raise ValueError(f"{name}: {getattr(self, name)!r}; one of {', '.join(known)}.")

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
        return protocol.PRIORS[self.prior_name]

    @property
    def grid(self) -> Grid:
        """Where predictions are kept: every point is checked for convergence."""
        return make_grid(self.problem, resolution=24 if self.sweep else 36, margin=protocol.MARGIN)

    @property
    def sampler(self) -> HMC:
        """The sampler's settings: two chains where one step costs tens of milliseconds."""
        if self.sweep:
            return HMC(chains=4, tune=200, draws=300)
        if self.width <= 64:
            return HMC(chains=4, tune=500, draws=1000)
        if self.width <= 256:
            return HMC(chains=4, tune=300, draws=700)
        return HMC(chains=2, tune=200, draws=600)

    @property
    def batch(self) -> int:
        """Transitions between two checkpoints: a few minutes at most."""
        if self.sweep or 64 < self.width <= 256:
            return 100
        return 250 if self.width <= 64 else 20 if self.width <= 512 else 10

    @property
    def name(self) -> str:
        """Name of its record."""
        head = f"sweep/{self.variant}" if self.sweep else "scaling"
        return f"{head}/{self.prior_name}/width-{self.width}/seed-{self.seed}"


def study() -> Iterator[Run]:
    """The runs of Table 10 and Figure 3, in the order of their cost."""
    for width in WIDTHS:
        for seed in SEEDS if width <= SEVERAL else SEEDS[:1]:
            for prior in reversed(PRIORS):
                yield Run(width, prior, seed)


def sweep() -> Iterator[Run]:
    """The runs that change one setting; what they are compared with is the study's own."""
    for width in SWEPT:
        for prior in reversed(PRIORS):
            for variant in VARIANTS:
                if variant != BASE and not (width == 0 and "activation" in VARIANTS[variant]):
                    yield Run(width, prior, variant=variant, sweep=True)
        for prior in OTHER_PRIORS:
            yield Run(width, prior, sweep=True)


def runs() -> dict[str, Run]:
    """Every run by the name of its record."""
    return {run.name: run for run in (*study(), *sweep())}


#: Runs that have come to their end: the study to width 64, three data seeds, and to width 256
#: under the prior scaled by fan-in; of the sweep what changes points and region to width 64, and
#: what changes noise, activation and precision to width 32.
_FINISHED = {
    *(Run(width, prior, seed) for width in WIDTHS[:5] for prior in PRIORS for seed in SEEDS),
    *(Run(width, "fan-in") for width in (128, 256)),
    *(
        Run(width, prior, variant=variant, sweep=True)
        for width in WIDTHS[:5]
        for prior in PRIORS
        for variant in ("points-100", "gap")
    ),
    *(
        Run(width, prior, variant=variant, sweep=True)
        for width in WIDTHS[1:4]
        for prior in PRIORS
        for variant in ("gelu", "noise-0.15", "noise-0.4")
    ),
    *(Run(width, prior, sweep=True) for width in WIDTHS[1:4] for prior in OTHER_PRIORS),
}
#: Runs that no machine has finished yet.
OPEN = tuple(name for name, run in runs().items() if run not in _FINISHED)
