"""The benchmarks of scoring: that methods agree and estimates are marked as such; never times."""

from __future__ import annotations

import importlib.util
import math
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pandas as pd
import pytest
import torch

from gnuq import artefacts
from gnuq.language_models import MODELS
from gnuq.scoring.passes import Batch
from tests import tiny

CPU = torch.device("cpu")
#: Shape → the model of the registry that it is the shape of.
REGISTERED = {
    "olmo-1b": "olmo-1b",
    "llama-3.2-3b": "llama-3.2-3b",
    "llama-2-7b": "llama-2-7b-chat-awq",
    "phi-4-14b": "phi-4",
}
RATIOS = [f"{x}_over_summed" for x in ("time", "memory", "resident")]


def _script(name: str) -> ModuleType:
    """A script by its path: Opacus installs a package `benchmarks` too."""
    path = artefacts.ROOT / "benchmarks" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"benchmarks_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


scoring = _script("scoring")
sizes = scoring.sizes


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def setting() -> Any:
    return scoring.Setting(tiny.model("llama-tied"), tiny.tokenizer(), tiny.EXAMPLES)


def test_all_methods_agree_with_the_loop(setting: Any) -> None:
    methods = {name: scoring.METHODS[name] for name in ("ours", "vmap", "loop")}
    norms = {name: method(setting)() for name, method in methods.items()}
    assert max(scoring.errors(setting, norms).values()) < 1e-6
    assert [len(norm) for norm in norms.values()] == [4, 4, 4]


def test_opacus_agrees_with_the_loop_on_its_untied_copy(setting: Any) -> None:
    pytest.importorskip("opacus")
    norms = {"opacus": scoring.opacus(setting)()}
    assert scoring.errors(setting, norms)["opacus"] < 1e-6


def test_a_copy_without_the_tie_predicts_the_same_and_the_original_stays_tied(setting: Any) -> None:
    twin = scoring.untied(setting.model)
    assert twin.get_output_embeddings().weight is not twin.get_input_embeddings().weight
    model = setting.model
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    torch.testing.assert_close(
        scoring.plain(twin, setting.batch), scoring.plain(model, setting.batch)
    )


def test_norms_that_disagree_are_refused(setting: Any) -> None:
    norms = {"ours": scoring.ours(setting)() * 1.001}
    with pytest.raises(ArithmeticError, match="ours: its norms are off by 0.001"):
        scoring.errors(setting, norms)


def test_methods_without_norms_leave_no_gradient(setting: Any) -> None:
    for name in ("floor", "summed", "samples", "together"):
        assert scoring.METHODS[name](setting)() is None
    assert all(p.grad is None for p in setting.model.parameters())


def test_the_table_has_a_row_for_each_method_and_ratios_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(scoring, "peak_in_fresh_process", lambda _, name, *a, **k: len(name))
    frame = scoring.measure(threads=1, methods=["vmap"], shape="tiny", rounds=1)
    assert list(frame.columns) == ["method", "time_over_floor", *RATIOS, "largest_relative_error"]
    assert list(frame["method"]) == ["ours", "floor", "summed", "vmap"]
    rows = frame.set_index("method")
    assert rows.loc["floor", "time_over_floor"] == rows.loc["summed", "time_over_summed"] == 1
    assert rows.loc["ours", "memory_over_summed"] == 4 / 6
    assert rows["largest_relative_error"].dropna().index.tolist() == ["ours", "vmap"]


def test_methods_that_cannot_count_quantised_weights_are_left_out(
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = sizes.random_model("tiny", torch.bfloat16, CPU, nf4=True)
    setting = scoring.Setting(model, None, sizes.random_examples(model, [(5, 2), (3, 1)]))
    runs, norms = scoring.ready(setting, ["ours", "loop", "vmap", "opacus"], quantised=True)
    assert list(runs) == ["ours", "floor", "summed"]
    assert list(norms) == ["ours"]
    assert "loop is left out: it has no gradient of quantised weights" in capsys.readouterr().err


def test_our_own_questions_stand_in_for_a_data_set_that_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(scoring.datasets, "available", lambda _: False)
    examples, told = scoring.questions(scoring.Source(), None, tiny.tokenizer())
    assert len(examples) == scoring.BATCH
    assert told == "our own questions and answers"


def test_memory_is_measured_in_a_process_of_its_own() -> None:
    found = scoring.peak_in_fresh_process(
        scoring.Source(shape="tiny"), "floor", tiny.EXAMPLES, threads=1, usual=False
    )
    assert math.isnan(found) or found > 0


@pytest.mark.parametrize("shape", REGISTERED)
def test_the_shapes_are_those_of_the_papers_models(shape: str) -> None:
    assert tuple(REGISTERED) == sizes.PAPER
    parameters = sizes.expected(shape, "bfloat16")["parameters"]
    assert parameters == MODELS[REGISTERED[shape]].parameters


def test_the_bytes_of_weights_are_those_of_a_model_that_was_built() -> None:
    for precision, dtype in sizes.PRECISIONS.items():
        model = sizes.random_model("tiny", dtype, CPU, nf4=precision == "nf4")
        held = sum(p.nbytes for p in model.parameters())
        for module in model.modules():
            if (state := getattr(getattr(module, "weight", None), "quant_state", None)) is not None:
                held += state.absmax.nbytes + 4 * len(state.code)  # float64 in tests only
        assert sizes.weight_bytes(sizes.skeleton("tiny", dtype), precision) == held


def test_a_quantised_model_with_random_weights_is_scored_as_any_other() -> None:
    model = sizes.random_model("tiny", torch.float32, CPU, nf4=True)
    batch = Batch.of(model, sizes.random_examples(model, [(5, 3), (4, 2)]))
    found = sizes.ours(model, batch)
    assert found.shape == (2,)
    assert (found > 0).all()


def test_what_does_not_fit_is_an_estimate_and_says_so() -> None:
    frame = sizes.measure(limit_gib=0.0, shapes=["tiny", "olmo-1b"], threads=1)
    assert list(frame["shape"]) == ["tiny"] * 3 + ["olmo-1b"] * 3
    assert list(frame["precision"]) == [*sizes.PRECISIONS] * 2
    assert not frame["measured"].any()
    assert frame["seconds"].isna().all()  # nothing to go by
    assert (frame["activations_gib"] > 0).all()
    exact = frame.set_index(["shape", "precision"])["weights_gib"] * 2**30
    assert exact["olmo-1b", "float32"] == 4 * MODELS["olmo-1b"].parameters


def test_an_estimated_time_is_in_proportion_to_the_largest_measured_one() -> None:
    rows = [(1.0, True, 10), (4.0, True, 20), (math.nan, False, 100)]
    frame = pd.DataFrame(rows, columns=["seconds", "measured", "multiplications"])
    frame = frame.assign(precision="float32")
    assert list(sizes.with_times(frame)["seconds"]) == [1.0, 4.0, 20.0]


def test_what_fits_is_measured_in_a_process_of_its_own() -> None:
    frame = sizes.measure(shapes=["tiny"], precisions=["nf4"], threads=1, repeats=1)
    row = frame.iloc[0]
    assert row["measured"]
    assert row["over_floor"] > 0
    assert row["seconds"] > 0
