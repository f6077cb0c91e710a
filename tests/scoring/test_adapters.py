"""Adapters of peft equal the plain loop: every kind that keeps its own weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import gnuq
from gnuq.scoring.weights import is_adapter
from tests import tiny

peft = pytest.importorskip("peft")
pytestmark = pytest.mark.filterwarnings("ignore")

ADAPTERS: dict[str, tuple[str, dict[str, Any]]] = {
    "LoRA": ("LoraConfig", {"r": 3, "target_modules": ["q_proj", "down_proj"]}),
    "LoRA with biases": ("LoraConfig", {"r": 3, "target_modules": ["q_proj"], "bias": "all"}),
    "DoRA": ("LoraConfig", {"r": 3, "target_modules": ["q_proj", "down_proj"], "use_dora": True}),
    "LoRA on embeddings": ("LoraConfig", {"r": 3, "target_modules": ["embed_tokens", "q_proj"]}),
    "DoRA on embeddings": (
        "LoraConfig", {"r": 3, "target_modules": ["embed_tokens"], "use_dora": True}),
    "LoRA on the head": ("LoraConfig", {"r": 3, "target_modules": ["lm_head"]}),
    "trainable tokens": (
        "LoraConfig", {"r": 3, "target_modules": ["q_proj"], "trainable_token_indices": [5, 9]}),
    "IA3": (
        "IA3Config",
        {"target_modules": ["k_proj", "down_proj"], "feedforward_modules": ["down_proj"]}),
}  # fmt: skip


def adapted(name: str) -> Any:
    kind, options = ADAPTERS[name]
    torch.manual_seed(0)
    model = peft.get_peft_model(tiny.model("llama-biases"), getattr(peft, kind)(**options))
    model = model.double().eval()
    for key, parameter in model.named_parameters():
        if is_adapter(key):
            torch.nn.init.normal_(parameter, std=0.3)
    return model


@pytest.mark.parametrize("name", ADAPTERS)
def test_an_adapter(name: str) -> None:
    model, examples = adapted(name), tiny.EXAMPLES
    given = [e.prompt for e in examples], [e.answer for e in examples]
    scores = gnuq.score(model, tiny.tokenizer(), *given)
    parts = {p: gnuq.score(model, tiny.tokenizer(), *given, params=p) for p in ("adapter", "base")}
    for i, example in enumerate(examples):
        expected = {k: float(v) for k, v in tiny.squared_norms(model, example).items()}
        mine = sum(v for k, v in expected.items() if is_adapter(k))
        total = sum(expected.values())
        assert scores.epistemic[i] == pytest.approx(total, rel=1e-6)
        assert parts["adapter"].epistemic[i] == pytest.approx(mine, rel=1e-6)
        assert parts["base"].epistemic[i] == pytest.approx(total - mine, rel=1e-6)
