"""Every stage's fingerprint under changes that mean nothing, and under such as mean something."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from gnuq.artefacts import ROOT
from gnuq.fingerprint import Code
from gnuq.pipeline.stages import stages
from tests.test_content import MEANINGLESS, PACKAGES, copy, moved, replaced, rewritten

__all__ = ["copy"]
pytestmark = pytest.mark.weekly


def claims(root: Path, renamed: Callable[[str], str] = str) -> dict[str, str]:
    code = Code(root, PACKAGES)
    return {
        stage.name: code.fingerprint(
            *map(renamed, stage.entries),
            choose={renamed(table): keys for table, keys in stage.choose.items()},
        )
        for stage in stages().values()
    }


@pytest.fixture(scope="module")
def original() -> dict[str, str]:
    return claims(ROOT)


#: What is done to a copy of the code, and what that makes of a dotted name.
NOTHING: dict[str, tuple[Callable[[Path], object], Callable[[str], str]]] = {
    **{
        told: (lambda root, change=change: rewritten(root, change), str)
        for told, change in MEANINGLESS.items()
    },
    "a module has another name": (
        lambda root: moved(root, "gnuq.networks", "gnuq.multilayer"),
        lambda name: name.replace("gnuq.networks.", "gnuq.multilayer."),
    ),
    "a module lies elsewhere": (
        lambda root: moved(root, "gnuq.posteriors.training", "gnuq.training"),
        lambda name: name.replace("gnuq.posteriors.training.", "gnuq.training."),
    ),
    "a class has another name": (lambda root: replaced(root, "Architecture", "Multilayer"), str),
    "a function has another name": (
        lambda root: replaced(root, "point_estimate", "found_by_training"),
        str,
    ),
}


@pytest.mark.parametrize("change", NOTHING)
def test_no_stage_is_stale(original, copy, change):
    alter, renamed = NOTHING[change]
    alter(copy)
    assert claims(copy, renamed) == original


#: File, what stands there, what stands there instead, and the definition that must be named.
SOMETHING: dict[str, tuple[str, str, str, str]] = {
    "a constant": (
        "gnuq/posteriors/hmc.py", "minval=0.5", "minval=0.4", "gnuq.posteriors.hmc._transition",
    ),
    "an operator": (
        "gnuq/estimators/links.py", "F.logsigmoid(wide) + ", "F.logsigmoid(wide) - ",
        "gnuq.estimators.links.slope",
    ),
    "a comparison": (
        "gnuq/posteriors/prior_flow.py", "change > DIVERGENT", "change < DIVERGENT",
        "gnuq.posteriors.prior_flow.transition",
    ),
    "a default": (
        "gnuq/posteriors/settings.py", "burn_in: int = 100", "burn_in: int = 101",
        "gnuq.posteriors.settings.StreamedHMC",
    ),
    "what is called": (
        "gnuq/posteriors/training.py", ".std(0).max() < FLAT", ".std(0).min() < FLAT",
        "gnuq.posteriors.training.is_flat",
    ),
    "a registration": (
        "gnuq/gradnorm/rules.py", '@rule(nn.RMSNorm, "weight", ', '@rule(nn.RMSNorm, "bias", ',
        "gnuq.gradnorm.rules",
    ),
    "an entry of a table": (
        "gnuq/problems.py", '"line": _Recipe("regression", 1, 0.3',
        '"line": _Recipe("regression", 1, 0.31', "gnuq.problems.PROBLEMS",
    ),
    "a name from outside": (
        "gnuq/posteriors/prior_flow.py", "jnp.tan(size / 2)", "jnp.sin(size / 2)",
        "gnuq.posteriors.prior_flow.trajectory",
    ),
}  # fmt: skip


@pytest.mark.parametrize("change", SOMETHING)
def test_stages_that_reach_it_are_stale_and_it_is_named(original, copy, change, record_property):
    file, old, new, named = SOMETHING[change]
    path = copy / file
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))
    stale = {name for name, claim in claims(copy).items() if claim != original[name]}
    record_property("stale", len(stale))
    assert stale
    before, after = Code(ROOT, PACKAGES), Code(copy, PACKAGES)
    for name in stale:
        stage = stages()[name]
        found = after.differing(before, *stage.entries, choose=stage.choose)
        assert named in {".".join(filter(None, definition)) for definition in found}
    assert len(stale) < len(original)
