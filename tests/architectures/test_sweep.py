"""The sweep over transformers' classes: its judgement, its small models, and what it must find."""

from __future__ import annotations

import pandas as pd
import pytest
import torch
from torch import nn

from gnuq.architectures import causal, classifiers, truth
from gnuq.architectures.__main__ import lost
from gnuq.architectures.configurations import SIZES, tiny
from gnuq.architectures.outcomes import NotBuiltError, Outcome, building, judged, random_model
from gnuq.architectures.sweep import sweep
from gnuq.results import exact_classes

pytestmark = pytest.mark.filterwarnings("ignore")

#: Language models, by what is special about them; how many examples go at once.
MODELS = {
    "llama": 4,
    "llama4_text": 4,  # experts with sorted tokens
    "qwen3_next": 4,  # gated linear attention: a norm layer over the heads of each token
    "qwen3_5_moe_text": 4,
    "olmo_hybrid": 4,
    "lfm2": 4,
    "lfm3": 4,  # a short convolution that reads its child's weight
    "kimi_linear": 4,
    "roformer": 4,  # positions by number, without a batch
    "deepseek_v32": 4,  # an indexer under no_grad
    "deepseek_v4": 4,  # an indexer that returns whole numbers
    "longcat_flash": 4,  # a router that uses its child's weight
    "recurrent_gemma": 1,  # a state that the module keeps
    "gemma3n_text": 1,
    "jetmoe": 1,
    "dbrx": 1,
}
HEADS = {"bert": 4, "distilbert": 4, "roberta": 4, "beit": 4, "siglip": 4, "t5": 1, "swin": 1}


@pytest.mark.parametrize("family", MODELS)
def test_a_language_model_is_exact(family: str) -> None:
    (outcome,) = causal.outcomes({family})
    assert (outcome.verdict, outcome.batch) == ("exact", MODELS[family]), outcome.sentence


@pytest.mark.parametrize("family", HEADS)
def test_a_classifier_is_exact(family: str) -> None:
    (outcome,) = classifiers.outcomes({family})
    assert (outcome.verdict, outcome.batch) == ("exact", HEADS[family]), outcome.sentence


@pytest.mark.weekly
def test_the_whole_sweep_has_no_wrong_class() -> None:
    found = sweep()
    models = found[found["task"] == causal.TASK]
    assert (models["verdict"] == "exact").sum() >= 145
    assert not (found["verdict"] == "wrong").any()


def test_verdicts() -> None:
    def raising(error: Exception):
        def measure() -> tuple[int, float]:
            raise error

        return measure

    given = {
        "exact": lambda: (4, 1e-9),
        "wrong": lambda: (4, 1e-3),
        "refused": raising(ValueError("it mixes\nexamples")),
        "not built": raising(NotBuiltError("too large")),
    }
    for verdict, measure in given.items():
        assert judged("task", "family", "Name", measure).verdict == verdict
    assert judged("task", "f", "N", given["refused"]).sentence == "ValueError: it mixes examples"
    assert judged("task", "f", "N", lambda: (4, float("nan"))).verdict == "wrong"


def test_differences_count_every_parameter_of_either_side() -> None:
    expected = {"a": 3.0, "b": 1.0}
    assert truth.largest_difference(expected, expected) == 0
    assert truth.largest_difference({"a": 3.0}, expected) == 0.25
    assert truth.largest_difference({**expected, "c": 1.0}, expected) == 0.25
    assert truth.largest_difference({"a": 1.0, "b": 3.0}, expected) == 0.5


def test_the_truth_leaves_out_what_no_gradient_reaches() -> None:
    model = nn.ModuleDict({"used": nn.Linear(3, 1), "idle": nn.Linear(3, 1)}).requires_grad_(False)
    found = truth.squared_norms(model, lambda: model["used"](torch.ones(1, 3)).sum())
    assert found == {"used.weight": 3.0, "used.bias": 1.0}
    assert not any(p.requires_grad for p in model.parameters())


def test_inside_the_block_float32_is_float64() -> None:
    x = torch.ones(2, dtype=torch.float64)
    with truth.InDouble():
        assert x.float().dtype == x.to(torch.float32).dtype == torch.float64
        assert torch.softmax(x, -1, dtype=torch.float32).dtype == torch.float64
    assert x.float().dtype == torch.float32


def test_configurations_are_small_in_their_parts_too() -> None:
    transformers = pytest.importorskip("transformers")
    config = tiny(transformers.CLIPConfig)
    parts = config.text_config, config.vision_config
    assert all(part.hidden_size == SIZES["hidden_size"] for part in parts)
    assert tiny(transformers.LlamaConfig, hidden_size=8).hidden_size == 8


def test_a_large_model_is_not_built() -> None:
    transformers = pytest.importorskip("transformers")
    with pytest.raises(NotBuiltError, match="million weights"):
        random_model(transformers.GPT2LMHeadModel, transformers.GPT2Config())


def test_errors_while_building_are_the_models() -> None:
    with pytest.raises(NotBuiltError, match="KeyError: 'heads'"), building():
        raise KeyError("heads")


def test_what_the_command_complains_about() -> None:
    def frame(*verdicts: str) -> pd.DataFrame:
        rows = [Outcome("t", str(i), "N", v) for i, v in enumerate(verdicts)]  # type: ignore[arg-type]
        return pd.DataFrame(rows)

    saved = frame("exact", "exact", "refused", "exact")
    found = frame("exact", "refused", "refused", "not built", "wrong")
    assert list(lost(found, saved)["family"]) == ["1", "3", "4"]


def test_the_books_tables_hold_what_they_say() -> None:
    found, counted = exact_classes.outcomes(), exact_classes.counts()
    kinds = list(exact_classes.VERDICTS)
    assert counted[kinds].sum().sum() == len(found)
    assert counted.loc["language model", "exact"] >= 145
    assert counted["wrong"].sum() == 0
    assert (counted["of them in batches"] <= counted["exact"]).all()
    assert exact_classes.refused()["sentence"].str.len().min() > 20
    assert len(exact_classes.not_built()) == counted["not built"].sum()
    assert "LlamaForCausalLM" in exact_classes.exact().loc["language model", "in batches"]
