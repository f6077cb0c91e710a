"""Every sampler draws from distributions whose moments are known, and gets them right."""

from __future__ import annotations

import pytest

from tests.posteriors.distributions import KNOWN, judge
from tests.posteriors.samplers import SAMPLERS

EVERYTHING = [(sampler, name) for sampler in SAMPLERS for name in KNOWN]
#: What takes seconds each: the sampler of records always, the others on two.
SMALL = [
    (sampler, name)
    for sampler, name in EVERYTHING
    if sampler == "streamed" or name in ("Gaussian, 4 dimensions", "exp(-x⁴/4)")
]


@pytest.mark.parametrize(("sampler", "name"), SMALL)
def test_moments_are_those_of_the_distribution(sampler, name):
    few = len(KNOWN[name].mean) < 9 and sampler == "streamed"
    draws, accepted = SAMPLERS[sampler](KNOWN[name], 1024 if few else 64, 400)
    assert 0.5 < accepted < 0.97  # so that what is refused matters
    judge(draws, KNOWN[name])


@pytest.mark.weekly
@pytest.mark.parametrize(("sampler", "name"), EVERYTHING)
def test_moments_are_those_of_the_distribution_to_a_thousandth(sampler, name):
    wide = len(KNOWN[name].mean) > 9
    draws, _ = SAMPLERS[sampler](KNOWN[name], 64, 400 if wide else 20_000)
    judge(draws, KNOWN[name])
