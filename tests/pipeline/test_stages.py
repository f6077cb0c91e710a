"""Stages: what they claim, how they are found, and that DVC knows the same ones."""

from __future__ import annotations

import json

import pytest
import yaml

from gnuq import artefacts, protocol
from gnuq.artefacts import ROOT
from gnuq.pipeline import claims, runs, stages
from gnuq.pipeline.stages import Stage, find


def test_every_posterior_comparison_and_table_is_a_stage() -> None:
    known = stages.stages()
    assert {e.record for e in protocol.experiments()} <= known.keys()
    assert {"validation", "methods", "method-costs", "table-1", "table-9"} <= known.keys()
    keys = [stage.key for stage in known.values()]
    assert len(set(keys)) == len(keys)
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


def test_dvc_has_every_stage_with_its_outputs() -> None:
    described = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    for stage in stages.stages().values():
        if stage.group in described:
            made = described[stage.group]["do"]
            told = {"item": {"name": stage.name}}
            text = json.dumps(made).replace("${item.name}", told["item"]["name"])
        else:
            text = json.dumps(described[stage.key])
        assert f"record --again {stage.name}" in text
        for output in stage.outputs:
            kind, name = stages.split(output)
            path = artefacts.path_of(kind, name).relative_to(ROOT).as_posix()
            assert path in text
            assert path.rpartition(".")[0] + ".json" in text
        for source in {name.partition("/")[0] for name in stage.inputs}:
            assert f"data/{source}/" in text
    for made in described.values():
        for out in made.get("do", made)["outs"]:
            assert next(iter(out.values())) == {"cache": False, "persist": True}


def test_the_claims_that_dvc_reads_belong_to_the_code() -> None:
    """`python -m gnuq check` writes them."""
    assert json.loads(claims.PATH.read_text()) == json.loads(json.dumps(claims.claims()))


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
