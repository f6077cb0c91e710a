"""Stages: what they claim, how they are found, and what they need."""

from __future__ import annotations

import pytest

from gnuq import protocol
from gnuq.pipeline import reproduce, runs, stages
from gnuq.pipeline.stages import Stage, find


def test_every_posterior_comparison_and_table_is_a_stage() -> None:
    known = stages.stages()
    assert {e.record for e in protocol.experiments()} <= known.keys()
    assert {"validation", "methods", "method-costs", "table-1", "table-9"} <= known.keys()
    outputs = [name for stage in known.values() for name in stage.outputs]
    assert len(set(outputs)) == len(outputs)


def test_inputs_come_from_stages_that_stand_before() -> None:
    made: set[str] = set()
    for stage in stages.stages().values():
        assert set(stage.inputs) <= made, stage.name
        made |= set(stage.outputs)


def test_a_posterior_depends_on_its_own_entries_only() -> None:
    """Another prior, or another problem, leaves the fingerprint as it is."""
    xor = stages.stages()["hmc/xor/unit-1/seed-0"]
    assert xor.choose["gnuq.protocol.PRIORS"] == "unit-1"
    same = stages.stages()["hmc/xor/unit-1/seed-4"]
    assert xor.code() == same.code()  # the seed is a setting
    assert xor.configuration != same.configuration
    for other in ("hmc/xor/unit-5/seed-0", "hmc/rings/unit-1/seed-0"):
        assert stages.stages()[other].code() != xor.code()


@pytest.mark.parametrize(
    ("item", "count"),
    [("table-5", 1), ("results/calibration", 1), ("hmc/xor/unit-1/seed-0", 1), ("hmc/xor", 20)],
)
def test_items_are_found_by_stage_artefact_and_beginning(item: str, count: int) -> None:
    assert len(find(item)) == count


@pytest.mark.parametrize("item", ["table-50", "hmc/xo", ""])
def test_an_unknown_item_is_refused(item: str) -> None:
    with pytest.raises(ValueError, match="item: no stage"):
        find(item)


def test_a_stage_needs_what_makes_its_inputs_first() -> None:
    names = [stage.name for stage in reproduce.needed([stages.stages()["table-1"]])]
    assert names[-2:] == ["validation", "table-1"]
    assert set(names[:-2]) == {e.record for e in protocol.experiments()}


def test_differences_name_what_changed() -> None:
    stage = Stage(
        name="x", group="tables", outputs=(), entries=("gnuq.results.table_5",),
        configuration={"noise": 0.25, "pair": (1, 2)}, seed=1,
    )  # fmt: skip
    wanted = stage.origin().as_json()
    assert runs.differences(dict(wanted), wanted) == []
    told = wanted | {"code": "0", "configuration": {"noise": 0.3, "pair": [1, 2]}, "seed": 2}
    told["inputs"] = {"records/y": "abc"}
    found = runs.differences(told, wanted)
    assert found[0] == "its code has changed since"
    assert "its setting noise was 0.3, now 0.25" in found
    assert "its input records/y has changed since" in found
    assert "its seed was 2, now 1" in found
    assert len(found) == 4
