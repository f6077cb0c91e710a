"""What `score` returns, in which units, for which objective; and what it refuses."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import psutil
import pytest
import torch
import transformers as T

import gnuq
from gnuq.gradnorm import UnsupportedModuleError
from gnuq.scoring import ExampleError
from gnuq.scoring.batches import batches, budget_of, bytes_per_token
from gnuq.scoring.examples import ScoreError
from tests import tiny

TOKENIZER = tiny.tokenizer()
PROMPTS = [e.prompt for e in tiny.EXAMPLES]
ANSWERS = [e.answer for e in tiny.EXAMPLES]


def score(model: Any, **options: Any) -> gnuq.Scores:
    return gnuq.score(model, TOKENIZER, PROMPTS, ANSWERS, **options)


@pytest.fixture(scope="module")
def llama() -> Any:
    return tiny.model("llama-tied")


OBJECTIVES = {
    "mean_probability": torch.mean,
    "mean_log_probability": lambda p: p.log().mean(),
    "joint_probability": torch.prod,
}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_each_objective_is_its_own_gradient(llama: Any, name: str) -> None:
    found = score(llama, objective=name).epistemic
    for i, example in enumerate(tiny.EXAMPLES):
        expected = sum(tiny.squared_norms(llama, example, OBJECTIVES[name]).values())
        assert found[i] == pytest.approx(float(expected), rel=1e-6)


def test_the_average_of_token_norms(llama: Any) -> None:
    found = score(llama, objective="token_average").epistemic
    for i, example in enumerate(tiny.EXAMPLES):
        norms = [
            float(sum(tiny.squared_norms(llama, example, lambda p, t=t: p[t]).values()))
            for t in range(len(example.answer))
        ]
        assert found[i] == pytest.approx(np.mean(norms), rel=1e-6)


def test_normalised_variants(llama: Any) -> None:
    scores = score(llama)
    weights = torch.cat([p.detach().flatten() for p in llama.parameters()])
    squared, count = float(weights.square().sum()), weights.numel()
    np.testing.assert_allclose(scores.relative, scores.epistemic / squared)
    np.testing.assert_allclose(scores.scale_free, scores.epistemic * squared)
    np.testing.assert_allclose(scores.scale_free_per_weight, scores.epistemic * squared / count)
    np.testing.assert_allclose(scores.length_free, scores.epistemic * [4, 6, 1, 2])
    frame = scores.to_frame()
    assert list(frame.length) == [4, 6, 1, 2]
    assert np.isfinite(frame.drop(columns="answer").to_numpy()).all()


def test_scale_free_does_not_change_when_the_weights_are_rewritten() -> None:
    """The same function of half the weights: a layer that doubles what it gives."""
    model = tiny.model("llama")
    layer = model.model.layers[0].mlp.down_proj

    def counts(name: str) -> bool:
        return name.endswith("layers.0.mlp.down_proj.weight")

    before = score(model, params=counts)
    scale_free, relative = before.scale_free, before.relative
    with torch.no_grad():
        layer.weight.div_(2)
    layer.register_forward_hook(lambda module, given, output: 2 * output)
    after = score(model, params=counts)
    np.testing.assert_allclose(after.epistemic, 4 * before.epistemic, rtol=1e-6)
    np.testing.assert_allclose(after.scale_free, scale_free, rtol=1e-6)
    np.testing.assert_allclose(after.relative, 16 * relative, rtol=1e-6)


@pytest.mark.parametrize("by", ["parameter", "module", "layer", "kind"])
def test_breakdowns_sum_to_the_score(llama: Any, by: Any) -> None:
    scores = score(llama)
    np.testing.assert_allclose(scores.by_module(by).sum(1), scores.epistemic)
    groups = {
        "layer": ["embed_tokens", "layer 0", "layer 1", "norm"],
        "kind": ["embed_tokens", "q_proj", "k_proj", "v_proj", "o_proj"],
    }
    if by in groups:
        assert list(scores.by_module(by))[: len(groups[by])] == groups[by]


def test_a_breakdown_by_token_needs_what_it_splits(llama: Any) -> None:
    with pytest.raises(IndexError, match="there are 4 answers"):
        score(llama).by_token(4)
    with pytest.raises(ValueError, match="'joint_probability' is not split by token"):
        score(llama, objective="joint_probability").by_token(0)


def test_autograd_counts_what_grad_would_hold(llama: Any) -> None:
    for name, parameter in llama.named_parameters():
        parameter.requires_grad_("norm" in name)
    try:
        scores = score(llama, params="autograd")
        assert all("norm" in name for name in scores.by_parameter)
        assert (scores.epistemic < score(llama).epistemic).all()
        assert not llama.lm_head.weight.requires_grad
    finally:
        llama.requires_grad_(True)


def test_the_model_is_left_as_it_was(llama: Any) -> None:
    before = {name: p.clone() for name, p in llama.named_parameters()}
    state = torch.get_rng_state()
    score(llama)
    assert torch.equal(state, torch.get_rng_state())
    for name, parameter in llama.named_parameters():
        assert parameter.requires_grad
        assert parameter.grad is None
        assert torch.equal(parameter, before[name])
    for module in llama.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks


def test_order_and_batches_do_not_matter(llama: Any) -> None:
    together = score(llama)
    alone = score(llama, memory=1e-6)
    np.testing.assert_allclose(alone.epistemic, together.epistemic, rtol=1e-9)
    back = gnuq.score(llama, TOKENIZER, PROMPTS[::-1], ANSWERS[::-1])
    np.testing.assert_allclose(back.epistemic[::-1], together.epistemic, rtol=1e-9)


def test_batches_are_sorted_and_fit_the_budget(llama: Any) -> None:
    found = list(batches(llama, tiny.EXAMPLES, lambda: 1.0))
    assert found == [[0], [2], [1], [3]]
    assert list(batches(llama, tiny.EXAMPLES, lambda: 1e12)) == [[0, 2, 1, 3]]
    assert budget_of(llama, 0.5) == 2**29


@pytest.mark.parametrize(("free", "budget"), [(2**31, 2**29), (2**40, 2**30)])
def test_by_default_a_batch_takes_of_what_is_free(
    llama: Any, monkeypatch: pytest.MonkeyPatch, free: int, budget: int
) -> None:
    """A quarter of it, whatever the machine has, and never more than a GiB."""
    memory = psutil.virtual_memory()._replace(available=free)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    assert budget_of(llama, None) == budget


def test_the_estimate_of_memory_is_near_what_a_pass_keeps(llama: Any) -> None:
    kept: dict[int, int] = {}

    def pack(x: torch.Tensor) -> torch.Tensor:
        kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    weights = {p.untyped_storage().data_ptr() for p in llama.parameters()}
    ids = torch.randint(3, 60, (2, 30))
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        llama(input_ids=ids).logits.sum()
    size = sum(n for where, n in kept.items() if where not in weights)
    assert 0.3 < bytes_per_token(llama) * ids.numel() / size < 3


def test_progress_counts_the_answers(llama: Any) -> None:
    seen: list[tuple[int, int]] = []
    score(llama, progress=lambda done, of: seen.append((done, of)))
    assert seen[-1] == (4, 4)


HALF = {torch.bfloat16: 0.25, torch.float16: 0.02}


@pytest.mark.parametrize("dtype", HALF)
def test_half_precision_is_near_float32(dtype: torch.dtype) -> None:
    reference = score(tiny.model("llama", torch.float32)).epistemic
    found = score(tiny.model("llama", torch.float32).to(dtype)).epistemic
    np.testing.assert_allclose(found, reference, rtol=HALF[dtype])


def biased(offset: float, dtype: torch.dtype = torch.float32) -> Any:
    """A model whose head prefers tokens from 20 on, so that all others are improbable."""
    model = tiny.model("llama", torch.float32)
    model.lm_head = torch.nn.Linear(16, tiny.VOCABULARY)
    with torch.no_grad():
        model.lm_head.weight.normal_(std=0.15)
        model.lm_head.bias.zero_()[20:].fill_(offset)
    return model.to(dtype)


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("offset", [12.0, 25.0, 50.0])
def test_small_probabilities_do_not_vanish(
    offset: float, dtype: torch.dtype, objective: str
) -> None:
    """An answer as improbable as e⁻⁵⁰; the square of its gradient is near 1e-45."""
    given = TOKENIZER, [(1, 5, 7), (1, 9)], [(4, 8), (4,)]
    torch.manual_seed(0)
    wide = gnuq.score(biased(offset, torch.float64), *given, objective=objective)
    torch.manual_seed(0)
    found = gnuq.score(biased(offset, dtype), *given, objective=objective)
    assert (wide.epistemic > 0).all()
    tolerance = 1e-4 if dtype == torch.float32 else 0.1
    np.testing.assert_allclose(found.epistemic, wide.epistemic, rtol=tolerance)


@pytest.mark.parametrize("objective", ["mean_probability", "mean_log_probability"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_confident_answers_keep_their_digits(dtype: torch.dtype, objective: str) -> None:
    """1 − p is about 1e-6 or less: a difference of numbers near one would have lost it."""
    model = tiny.model("llama", torch.float32)
    model.lm_head = torch.nn.Linear(16, tiny.VOCABULARY)
    with torch.no_grad():
        model.lm_head.weight.normal_(std=0.15)
        model.lm_head.bias.zero_()[4] = 18.0
    given = TOKENIZER, [(1, 5, 7), (1, 9)], [(4, 4), (4,)]
    found = gnuq.score(model.to(dtype), *given, objective=objective)
    wide = gnuq.score(model.double(), *given, objective=objective)
    assert (wide.aleatoric < 2e-6).all()
    tolerance = 1e-4 if dtype == torch.float32 else 0.1
    np.testing.assert_allclose(found.epistemic, wide.epistemic, rtol=tolerance)
    np.testing.assert_allclose(found.aleatoric, wide.aleatoric, rtol=tolerance)


@pytest.mark.parametrize("length", [3, 200])
def test_a_long_joint_probability_is_kept_as_a_logarithm(llama: Any, length: int) -> None:
    """log ‖∇Π p‖² = 2 log Π p + 2 log T + log ‖∇ mean log p‖², far below what a float holds."""
    answer = [4 + i % 50 for i in range(length)]
    given = llama, TOKENIZER, [[1, 5, 9]], [answer]
    logs = gnuq.score(*given, objective="mean_log_probability")
    total = length * logs.mean_log_probability[0]
    expected = 2 * (total + math.log(length)) + math.log(logs.epistemic[0])
    if length == 3:
        found = gnuq.score(*given, objective="joint_probability")
        assert found.epistemic[0] == pytest.approx(math.exp(expected), rel=1e-6)
    else:
        assert expected < -1400
        with pytest.warns(UserWarning, match=r"first of answer 0, .* log_epistemic has what"):
            found = gnuq.score(*given, objective="joint_probability")
        assert found.epistemic[0] == 0
    assert found.log_epistemic[0] == pytest.approx(expected, rel=1e-9)
    assert found.to_frame().log_epistemic[0] == found.log_epistemic[0]


def test_an_answer_too_improbable_for_a_float_keeps_its_logarithm() -> None:
    """Its square is near e⁻⁸⁰⁰; the split by token, which has no logarithm, is refused."""
    given = TOKENIZER, [(1, 5, 7)], [(4, 8)]
    expected = gnuq.score(biased(200.0, torch.float64), *given).log_epistemic[0]
    torch.manual_seed(0)
    with pytest.warns(UserWarning, match="no float can hold"):
        found = gnuq.score(biased(400.0, torch.float64), *given)
    assert found.log_epistemic[0] < -750 < -350 > expected
    with pytest.raises(ValueError, match="whose square no float can hold"):
        found.by_token(0)


def test_the_logarithm_is_that_of_the_score(llama: Any) -> None:
    found = score(llama, objective="token_average")
    np.testing.assert_allclose(np.exp(found.log_epistemic), found.epistemic, rtol=1e-12)


@pytest.mark.parametrize("calls", [0, 2])
def test_a_head_that_is_not_called_once_is_refused(llama: Any, calls: int) -> None:
    """The logits of other positions would be read in the place of the answer's."""
    model = tiny.model("llama")
    head = model.lm_head

    class Head(torch.nn.Module):
        """Predicts from every position, but in its own way."""

        def forward(self, hidden: torch.Tensor) -> torch.Tensor:
            if not calls:
                return torch.nn.functional.linear(hidden, head.weight)
            return torch.cat([head(hidden[:, :1]), head(hidden[:, 1:])], 1)

    model.lm_head, model.get_output_embeddings = Head(), lambda: head
    with pytest.raises(
        (ScoreError, UnsupportedModuleError), match=r"behind the output embedding|states of"
    ):
        score(model)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory."),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate"),
        MemoryError(),
    ],
)
def test_a_batch_that_does_not_fit_is_halved(
    llama: Any, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    expected, seen, forward = score(llama).epistemic, [], type(llama).forward

    def small(self: Any, input_ids: torch.Tensor, **options: Any) -> Any:
        seen.append(len(input_ids))
        if len(input_ids) > 1:
            raise error
        return forward(self, input_ids=input_ids, **options)

    monkeypatch.setattr(type(llama), "forward", small)
    np.testing.assert_allclose(score(llama).epistemic, expected, rtol=1e-9)
    assert {1, 2, 4} <= set(seen)


@pytest.mark.parametrize("objective", ["mean_probability", "mean_log_probability"])
@pytest.mark.parametrize("gap", [60.0, 80.0, 100.0, 200.0])
def test_certain_answers_have_a_norm_in_every_data_type(gap: float, objective: str) -> None:
    """1 − p is below e⁻¹⁹⁰; ‖∇p̄‖² scales as its square, which float32 cannot hold."""

    def found(offset: float, dtype: torch.dtype) -> float:
        torch.manual_seed(0)
        model = tiny.model("llama", torch.float32)
        model.lm_head = torch.nn.Linear(16, tiny.VOCABULARY)
        with torch.no_grad():
            model.lm_head.weight.normal_(std=0.15)
            model.lm_head.bias.zero_()[4] = offset
        scores = gnuq.score(model.to(dtype), TOKENIZER, [(1, 5, 7)], [(4, 4)], objective=objective)
        return float(scores.log_epistemic[0])

    wide = found(gap, torch.float64)
    assert wide == pytest.approx(found(30.0, torch.float64) - 2 * (gap - 30), abs=1e-4)
    assert found(gap, torch.float32) == pytest.approx(wide, abs=1e-4)
    assert found(gap, torch.float16) == pytest.approx(wide, abs=0.2)


def test_an_answer_beyond_doubt_is_said_to_have_no_norm() -> None:
    model = tiny.model("llama")
    model.lm_head = torch.nn.Linear(16, tiny.VOCABULARY)
    with torch.no_grad():
        model.lm_head.bias.zero_()[4] = 1e4
    with pytest.warns(UserWarning, match="first of answer 0, are as small as e\\^-inf"):
        assert gnuq.score(model, TOKENIZER, [(1, 5)], [(4,)]).epistemic[0] == 0


def test_a_token_of_probability_nought_is_refused_and_others_are_not(llama: Any) -> None:
    """Logit 0 is masked out: padding has that id, and must not matter."""

    def mask(head: Any, given: Any, logits: torch.Tensor) -> torch.Tensor:
        return torch.cat([torch.full_like(logits[..., :1], -torch.inf), logits[..., 1:]], -1)

    expected = {name: score(llama, objective=name).epistemic for name in OBJECTIVES}
    handle = llama.lm_head.register_forward_hook(mask)
    try:
        for name in OBJECTIVES:
            found = score(llama, objective=name).epistemic
            assert (found > 0.5 * expected[name]).all()  # the rest is renormalised
        refused("probability nought", ExampleError, llama, TOKENIZER, [[1]], [[5, 0, 5]])
    finally:
        handle.remove()


def refused(match: str, error: type[Exception], *arguments: Any, **options: Any) -> None:
    with pytest.raises(error, match=match):
        gnuq.score(*arguments, **options)


def test_what_is_no_causal_language_model() -> None:
    sizes = tiny.GROUPED
    classifier = T.LlamaForSequenceClassification(T.LlamaConfig(**sizes)).eval()
    refused("no language-model head", ScoreError, classifier, TOKENIZER, PROMPTS, ANSWERS)
    headless = T.LlamaModel(T.LlamaConfig(**sizes)).eval()
    refused("AutoModelForCausalLM", ScoreError, headless, TOKENIZER, PROMPTS, ANSWERS)
    bert = T.BertForMaskedLM(T.BertConfig(**tiny.SIZES)).eval()
    refused("sees later tokens", ScoreError, bert, TOKENIZER, PROMPTS, ANSWERS)
    t5 = T.T5ForConditionalGeneration(
        T.T5Config(vocab_size=61, d_model=16, d_kv=4, d_ff=24, num_layers=1, num_heads=2)
    ).eval()
    refused("encoder–decoder", ScoreError, t5, TOKENIZER, PROMPTS, ANSWERS)
    refused("expected a Hugging Face", TypeError, torch.nn.Linear(2, 2), TOKENIZER, [], [])


def test_a_model_that_counts_positions_its_own_way() -> None:
    config = T.RobertaConfig(**{**tiny.SIZES, "pad_token_id": 1}, is_decoder=True)
    model = T.RobertaForCausalLM(config).eval()
    refused("does not count positions from nought", ScoreError, model, TOKENIZER, [], [])


def test_weights_that_are_not_in_memory() -> None:
    with torch.device("meta"):
        model = T.LlamaForCausalLM(T.LlamaConfig(**tiny.GROUPED)).eval()
    refused("not in memory", ScoreError, model, TOKENIZER, [], [])
    for no_tokenizer in (None, "gpt2", len):
        refused("tokenizer: expected the model's", TypeError, model, no_tokenizer, [], [])


def test_what_cannot_be_batched_is_scored_one_by_one() -> None:
    """BART's decoder adds one row of positions to all examples, which no batch can tell apart."""
    sizes = {"d_model": 16, "decoder_layers": 1, "decoder_attention_heads": 2}
    config = T.BartConfig(vocab_size=61, decoder_ffn_dim=24, **sizes, max_position_embeddings=64)
    model = T.BartForCausalLM(config).double().eval()
    found = score(model).epistemic
    for i, example in enumerate(tiny.EXAMPLES):
        expected = float(sum(tiny.squared_norms(model, example).values()))
        assert found[i] == pytest.approx(expected, rel=1e-6)


def test_arrays_and_columns_of_tables(llama: Any) -> None:
    import pandas as pd

    expected = score(llama).epistemic
    prompts = pd.Series([np.array(p) for p in PROMPTS])
    found = gnuq.score(llama, TOKENIZER, prompts, [np.array(a) for a in ANSWERS])
    np.testing.assert_allclose(found.epistemic, expected)


def test_a_table_is_not_taken_for_the_names_of_its_columns(llama: Any) -> None:
    import pandas as pd

    table = pd.DataFrame({"what": ["w1 w2"], "is": ["w3 w4"]})
    refused("of a table one column", ScoreError, llama, TOKENIZER, table, ["yes", "w5"])


def test_a_compiled_model_is_scored_as_it_was_before(llama: Any) -> None:
    found, expected = score(torch.compile(llama, backend="eager")), score(llama)
    np.testing.assert_array_equal(found.epistemic, expected.epistemic)
    assert found.fingerprint == expected.fingerprint


def test_a_model_that_gives_no_logits_is_refused() -> None:
    model = tiny.model("llama")
    model.config.return_dict = False
    refused("fails on four tokens", ScoreError, model, TOKENIZER, PROMPTS, ANSWERS)


def shrunk_by_position(head: Any, given: Any, logits: torch.Tensor) -> torch.Tensor:
    return logits / torch.arange(1.0, logits.shape[1] + 1)[:, None]


def test_logits_that_depend_on_more_than_their_position_are_refused(llama: Any) -> None:
    """Scored at the answer's positions alone, they would be others; a hook may come later, too."""

    class Penalised(T.LlamaForCausalLM):
        """Penalises the repetition of the ids that it is given."""

        def forward(self, input_ids: torch.Tensor, **options: Any) -> Any:
            output = super().forward(input_ids=input_ids, **options)
            if output.logits.shape[1] == input_ids.shape[1]:
                output.logits = output.logits.scatter_add(
                    2, input_ids[..., None], torch.full_like(output.logits, -2.0)
                )
            return output

    penalised = Penalised(T.LlamaConfig(**tiny.GROUPED)).eval()
    refused("behind the output embedding", ScoreError, penalised, TOKENIZER, PROMPTS, ANSWERS)
    expected = score(llama).epistemic
    handle = llama.lm_head.register_forward_hook(shrunk_by_position)
    try:
        refused("behind the output embedding", ScoreError, llama, TOKENIZER, PROMPTS, ANSWERS)
    finally:
        handle.remove()
    np.testing.assert_array_equal(score(llama).epistemic, expected)


def test_another_models_tokenizer() -> None:
    sizes = {**tiny.GROUPED, "vocab_size": 2000}
    model = T.LlamaForCausalLM(T.LlamaConfig(**sizes)).eval()
    refused("it has 61 tokens, the model's embedding 2000", ScoreError, model, TOKENIZER, [], [])


def test_training_mode_and_bad_weights() -> None:
    for name in ("gpt2", "llama"):  # with dropout, and without
        model = tiny.model(name).train()
        refused(r"call model.eval\(\)", ScoreError, model, TOKENIZER, PROMPTS, ANSWERS)
    model = tiny.model("gpt2")
    with torch.no_grad():
        model.transformer.wpe.weight[0] = math.nan
    refused("NaN or infinity", ScoreError, model, TOKENIZER, PROMPTS, ANSWERS)


def test_options_that_there_are_not(llama: Any) -> None:
    refused("objective: 'mean' is none of", ScoreError, llama, TOKENIZER, [], [], objective="mean")
    refused("params: 'some'", ScoreError, llama, TOKENIZER, PROMPTS, ANSWERS, params="some")
    refused("leaves no weight", ScoreError, llama, TOKENIZER, PROMPTS, ANSWERS, params="adapter")
    for memory in (0, -1, math.nan, "1"):
        refused("memory: ", ScoreError, llama, TOKENIZER, PROMPTS, ANSWERS, memory=memory)


def test_an_answer_that_does_not_fit(llama: Any) -> None:
    refused(
        "example 0: 1 tokens of prompt and 300 of answer do not fit the model's context of 256",
        ExampleError,
        llama,
        TOKENIZER,
        [[1]],
        [[5] * 300],
    )
    refused("outside the model's vocabulary of 61", ExampleError, llama, TOKENIZER, [[1]], [[61]])


def test_logits_that_are_not_finite_name_the_answer() -> None:
    """One token's embedding is so large that its square overflows; only example 3 has it."""
    model = tiny.model("gpt-neox", torch.float32)
    with torch.no_grad():
        model.gpt_neox.embed_in.weight[44] = 1e30
    refused(
        "example 3: the model's logits are NaN", ExampleError, model, TOKENIZER, PROMPTS, ANSWERS
    )


def test_a_model_that_mixes_examples_gets_them_one_by_one() -> None:
    model = tiny.model("llama")
    plain = score(model)
    model.model.norm.register_forward_hook(lambda m, a, y: y + 0.5 * (y.mean(0, True) - y))
    with pytest.warns(UserWarning, match="one at a time"):
        found = score(model)
    np.testing.assert_allclose(found.epistemic, plain.epistemic)


def test_positions_that_switch_with_the_longest_answer_are_seen_in_every_batch() -> None:
    """As longrope's frequencies do, once a batch is longer than the model was first trained for."""
    model = tiny.model("llama")

    def switch(module: Any, given: Any, y: torch.Tensor) -> torch.Tensor:
        return y * (1.5 if y.shape[1] > 8 else 1.0)

    model.model.norm.register_forward_hook(switch)
    prompts = [[5] * 4] * 3 + [[6] * 8] * 3
    answers = [[7, 8]] * 6
    one = [score_one(model, p, a) for p, a in zip(prompts, answers, strict=True)]
    with pytest.warns(UserWarning, match="one at a time"):
        found = gnuq.score(model, TOKENIZER, prompts, answers)
    np.testing.assert_allclose(found.epistemic, one)


def score_one(model: Any, prompt: list[int], answer: list[int]) -> float:
    return float(gnuq.score(model, TOKENIZER, [prompt], [answer]).epistemic[0])


def test_the_judge_names_a_weight_whose_use_is_not_seen() -> None:
    model = tiny.model("llama")
    kept = torch.nn.Parameter(torch.ones(()))
    model.model.norm.register_parameter("extra", kept)
    model.model.norm.register_forward_hook(lambda m, a, y: scaled(y, m.extra))
    with pytest.raises(UnsupportedModuleError, match=r"model\.norm\.extra.*no use of it was seen"):
        score(model)


@torch.jit.script
def scaled(y: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    return y * factor


def test_lora_counts_base_adapter_or_both() -> None:
    peft = pytest.importorskip("peft")
    model = peft.get_peft_model(
        tiny.model("llama"), peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"])
    ).eval()
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    model = model.double()
    found = {params: score(model, params=params).epistemic for params in ("adapter", "base", "all")}
    np.testing.assert_allclose(found["adapter"] + found["base"], found["all"])
    np.testing.assert_allclose(score(model, params="autograd").epistemic, found["adapter"])
    for i, example in enumerate(tiny.EXAMPLES):
        norms = tiny.squared_norms(model, example)
        adapter = float(sum(v for k, v in norms.items() if "lora_" in k))
        assert found["adapter"][i] == pytest.approx(adapter, rel=1e-6)
        assert found["all"][i] == pytest.approx(float(sum(norms.values())), rel=1e-6)
    assert {"q_proj", "v_proj"} <= set(score(model).by_module("kind"))


def test_gradient_checkpointing_changes_nothing() -> None:
    model = tiny.model("llama")
    expected = score(model).epistemic
    model.gradient_checkpointing_enable()
    np.testing.assert_allclose(score(model).epistemic, expected)


def test_hooks_of_accelerate_change_nothing() -> None:
    accelerate = pytest.importorskip("accelerate")
    model = tiny.model("llama-tied")
    expected = score(model).epistemic
    model = accelerate.dispatch_model(model, {"": "cpu"}, force_hooks=True)
    np.testing.assert_allclose(score(model).epistemic, expected)
