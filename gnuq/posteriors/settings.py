"""Settings of the samplers, apart from the samplers: reading them must not import PyMC."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class HMC:
    """Settings of the sampler.

    Attributes:
        sampler: `"hmc"` with a fixed (jittered) path length, or `"nuts"`.
        chains: independent chains, each started from its own draw of the prior.
        tune: steps of dual averaging per chain, discarded.
        draws: kept draws per chain.
        path_length: mean length of a trajectory, in prior standard deviations (HMC only); each
            trajectory is stretched by a uniform factor between ½ and 3⁄2.
        target_accept: acceptance rate that dual averaging aims at.
        seed: seed of starts, momenta and acceptances.
    """

    sampler: Literal["hmc", "nuts"] = "hmc"
    chains: int = 4
    tune: int = 500
    draws: int = 1000
    path_length: float = 1.5
    target_accept: float = 0.8
    seed: int = 0

    def __post_init__(self) -> None:
        if self.sampler not in ("hmc", "nuts"):
            raise ValueError(f"sampler: {self.sampler!r} is neither 'hmc' nor 'nuts'.")
        for name in ("chains", "tune", "draws", "path_length"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}: {getattr(self, name)} is not positive.")
        if not 0 < self.target_accept < 1:
            raise ValueError(f"target_accept: {self.target_accept} is not between 0 and 1.")


@dataclass(frozen=True)
class StreamedHMC:
    """Settings of the sampler of `gnuq.posteriors.streamed`, for networks of any width.

    Attributes:
        chains: independent chains, each started from its own draw of the prior.
        tune: transitions of dual averaging, with all chains, that find the step size.
        burn_in: transitions of each chain at that step size, discarded.
        draws: kept draws per chain.
        path_length: mean length of a trajectory, in prior standard deviations; each trajectory is
            stretched by a uniform factor between ½ and 3⁄2.
        target_accept: acceptance rate that dual averaging aims at.
        together: chains that are advanced as one batch; it divides `chains`. One is fastest on a
            processor, all are on a GPU.
        seed: of starts, momenta, lengths and acceptances.
    """

    chains: int = 4
    tune: int = 100
    burn_in: int = 100
    draws: int = 600
    path_length: float = 1.5
    target_accept: float = 0.7
    together: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("chains", "tune", "burn_in", "draws", "path_length", "together"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}: {getattr(self, name)} is not positive.")
        if self.chains % self.together:
            raise ValueError(f"together: {self.together} does not divide {self.chains} chains.")
        if not 0 < self.target_accept < 1:
            raise ValueError(f"target_accept: {self.target_accept} is not between 0 and 1.")
