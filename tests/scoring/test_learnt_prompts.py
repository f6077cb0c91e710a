"""peft's learnt prompts stand before the ids: scores are read behind them, and count them."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

import gnuq
from gnuq.scoring.errors import ExampleError, ScoreError
from tests import tiny

peft = pytest.importorskip("peft")

TOKENIZER = tiny.tokenizer()
LENGTH = {"task_type": "CAUSAL_LM", "num_virtual_tokens": 3}
KINDS = {
    "prompt tuning": lambda: peft.PromptTuningConfig(**LENGTH),
    "p-tuning": lambda: peft.PromptEncoderConfig(**LENGTH, encoder_hidden_size=8),
    "p-tuning, LSTM": lambda: peft.PromptEncoderConfig(
        **LENGTH, encoder_hidden_size=8, encoder_reparameterization_type="LSTM"
    ),
    "prefix tuning": lambda: peft.PrefixTuningConfig(**LENGTH),
}


def tuned(kind: str, inference: bool, name: str = "llama") -> Any:
    model = peft.get_peft_model(tiny.model(name), KINDS[kind]()).double().eval()
    for key, parameter in model.named_parameters():
        if "prompt_encoder" in key:
            torch.nn.init.normal_(parameter, std=0.3)
    model.active_peft_config.inference_mode = inference  # as from_pretrained leaves it
    return model


def truth(model: Any, example: gnuq.scoring.Example) -> tuple[float, float]:
    """‖∇p̄‖² and p̄ from a plain call, the answer's logits counted from the end."""
    model = copy.deepcopy(model).requires_grad_(True)
    logits = model(input_ids=torch.tensor([example.ids]), use_cache=False).logits[0]
    answer = torch.tensor(example.answer)
    p = logits[-len(answer) - 1 : -1].softmax(-1)[torch.arange(len(answer)), answer].mean()
    gradients = torch.autograd.grad(p, list(model.parameters()), allow_unused=True)
    return sum(float(g.square().sum()) for g in gradients if g is not None), float(p.detach())


@pytest.mark.parametrize("inference", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_scores_and_breakdowns_equal_a_plain_backward(kind: str, inference: bool) -> None:
    model, examples = tuned(kind, inference), tiny.EXAMPLES
    found = gnuq.score(model, TOKENIZER, [e.prompt for e in examples], [e.answer for e in examples])
    for i, example in enumerate(examples):
        squared, mean = truth(model, example)
        assert found.epistemic[i] == pytest.approx(squared, rel=1e-5)
        assert found.mean_probability[i] == pytest.approx(mean, rel=1e-6)
    tokens = found.by_token(0)
    assert tokens.share.sum() == pytest.approx(found.epistemic[0], rel=1e-5)
    assert tokens.position_share.sum() == pytest.approx(found.epistemic[0], rel=1e-5)
    assert len(tokens) == len(examples[0]) + 1  # the learnt prompt's share stands in a last row
    assert model.active_peft_config.inference_mode is inference
    assert not any("forward" in vars(encoder) for encoder in model.prompt_encoder.values())


def test_switched_off_it_is_the_model_below() -> None:
    model, example = tuned("prompt tuning", True), tiny.EXAMPLES[0]
    given = TOKENIZER, [example.prompt], [example.answer]
    with model.disable_adapter():
        found = gnuq.score(model, *given)
    below = gnuq.score(model.get_base_model(), *given)
    assert found.epistemic[0] == pytest.approx(below.epistemic[0], rel=1e-9)
    assert found.fingerprint != gnuq.score(model, *given).fingerprint


def test_the_learnt_prompt_takes_of_the_context() -> None:
    model = tuned("prompt tuning", False)
    assert len(gnuq.score(model, TOKENIZER, [[1, *[5] * 249]], [[7, 8, 9]])) == 1
    with pytest.raises(ExampleError, match="do not fit the model's context of 256"):
        gnuq.score(model, TOKENIZER, [[1, *[5] * 250]], [[7, 8, 9]])


@pytest.mark.parametrize("change", ["longer", "shorter"])
def test_a_model_with_other_positions_than_its_ids_is_refused(change: str) -> None:
    """Whatever the reason: at no position is it known what predicts what."""
    model = tiny.model("llama")

    def pool(norm: Any, given: Any, hidden: torch.Tensor) -> torch.Tensor:
        return hidden[:, 1:] if change == "shorter" else torch.cat([hidden, hidden[:, :1]], 1)

    model.model.norm.register_forward_hook(pool)
    with pytest.raises(ScoreError, match="states of shape .* for 4 ids.*one position for each id"):
        gnuq.score(model, TOKENIZER, [[1, 5]], [[7]])
