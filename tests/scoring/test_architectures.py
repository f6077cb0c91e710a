"""Scores equal one plain backward() an answer, for every architecture, in padded batches."""

from __future__ import annotations

import pytest
import torch
import transformers as T

import gnuq
from gnuq.gradnorm import squared_gradient_norms
from gnuq.gradnorm.rules import find_rule
from gnuq.scoring import Example
from tests import tiny

PRECISION = {torch.float64: 1e-6, torch.float32: 1e-5}


@pytest.mark.parametrize("dtype", PRECISION, ids=["float64", "float32"])
@pytest.mark.parametrize("name", tiny.ARCHITECTURES)
def test_one_pass_equals_a_backward_for_each_answer(name: str, dtype: torch.dtype) -> None:
    model, examples = tiny.model(name, dtype), tiny.EXAMPLES
    scores = gnuq.score(
        model, tiny.tokenizer(), [e.prompt for e in examples], [e.answer for e in examples]
    )
    for i, example in enumerate(examples):
        expected = tiny.squared_norms(model, example)
        total = float(sum(expected.values()))
        assert scores.epistemic[i] == pytest.approx(total, rel=PRECISION[dtype])
        for parameter, norm in expected.items():
            found = scores.by_parameter[parameter].iloc[i] if norm else 0.0
            assert found == pytest.approx(float(norm), rel=1e-3, abs=PRECISION[dtype] * total)
        p = tiny.probabilities(model, example).detach().double().numpy()
        assert scores.mean_probability[i] == pytest.approx(p.mean(), rel=1e-5)
        assert scores.aleatoric[i] == pytest.approx((p * (1 - p)).mean(), rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_rows_that_are_as_many_as_the_examples_share(dtype: torch.dtype) -> None:
    """Positions of shape (T, D), T = 8 for four examples, are no tokens of examples in a row."""
    sizes = {"d_model": 16, "decoder_layers": 1, "decoder_attention_heads": 2}
    config = T.PegasusConfig(vocab_size=61, decoder_ffn_dim=24, **sizes)
    model = T.PegasusForCausalLM(config).to(dtype).eval()
    examples = [Example((1, 5, 7, 9, k), (4, 8, 15)) for k in (3, 6, 11, 12)]
    given = [e.prompt for e in examples], [e.answer for e in examples]
    found = gnuq.score(model, tiny.tokenizer(), *given).epistemic
    alone = gnuq.score(model, tiny.tokenizer(), *given, memory=1e-9).epistemic
    assert found == pytest.approx(alone, rel=1e-6)


@pytest.mark.parametrize("name", ["llama", "llama-tied", "opt", "gemma3"])
def test_the_padding_row_of_an_embedding_follows_backward(name: str) -> None:
    """Token 0 is `padding_idx`: even as a real token its row gets no gradient."""
    model, example = tiny.model(name), Example((1, 7, 0, 9), (6, 0, 8))
    scores = gnuq.score(model, tiny.tokenizer(), [example.prompt], [example.answer])
    expected = tiny.squared_norms(model, example)
    assert scores.epistemic[0] == pytest.approx(float(sum(expected.values())), rel=1e-6)


@pytest.mark.parametrize("name", ["llama", "qwen3", "mistral-sliding", "gpt2", "opt"])
def test_left_padding_changes_nothing(name: str) -> None:
    """The engine itself, on inputs that the caller has padded on the left."""
    model, examples = tiny.model(name), tiny.EXAMPLES
    width = max(map(len, examples))
    ids = torch.tensor([[0] * (width - len(e)) + list(e.ids) for e in examples])
    mask = torch.tensor([[0] * (width - len(e)) + [1] * len(e) for e in examples])
    inputs = {"input_ids": ids, "attention_mask": mask, "use_cache": False}
    inputs["position_ids"] = (mask.cumsum(1) - 1).clamp(min=0)

    def objective(output) -> torch.Tensor:
        p = output.logits[:, :-1].softmax(-1).gather(2, ids[:, 1:, None])[..., 0]
        return torch.stack([p[b, -len(e.answer) :].mean() for b, e in enumerate(examples)])

    found = squared_gradient_norms(model, inputs, objective, flattened=True).total
    for norm, example in zip(found, examples, strict=True):
        expected = float(sum(tiny.squared_norms(model, example).values()))
        assert float(norm) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("name", tiny.ARCHITECTURES)
def test_breakdowns_by_token_sum_to_the_score(name: str) -> None:
    model, example = tiny.model(name), tiny.EXAMPLES[0]
    scores = gnuq.score(model, tiny.tokenizer(), [example.prompt], [example.answer])
    frame = scores.by_token(0)
    assert len(frame.query("part == 'answer'")) == len(example.answer)
    assert frame.share.sum() == pytest.approx(scores.epistemic[0], rel=1e-6)
    assert frame.position_share.sum() == pytest.approx(scores.epistemic[0], rel=1e-6)
    for t in range(len(example.answer)):
        expected = sum(tiny.squared_norms(model, example, lambda p, t=t: p[t]).values())
        found = frame.squared_norm.iloc[len(example.prompt) + t]
        assert found == pytest.approx(float(expected), rel=1e-6)


@pytest.mark.parametrize("name", tiny.ARCHITECTURES)
def test_the_fallback_is_left_with_small_modules_only(name: str) -> None:
    """The generic fallback holds a gradient an example: never of a module with large weights."""
    small = ("TopKRouter", "OPTLearnedPositionalEmbedding", "Embedding")
    for module in tiny.model(name).modules():
        if next(module.parameters(recurse=False), None) is not None and find_rule(module) is None:
            assert type(module).__name__.endswith(small), type(module).__name__
