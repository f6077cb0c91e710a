"""Reading once what prompts share changes no number, whatever the model remembers them by."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import pytest
import torch
from transformers import LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from gnuq.language_models import generate, next_token, prefix
from tests.language_models import tiny
from tests.language_models.families import ATTENTION, RECURRENT, made

BEGINNING = "Q: what\nA: that\n\nQ: "
PROMPTS = {
    "a long beginning": [BEGINNING + one for one in ("a", "which river?", "who was it then?", "b")],
    "one token": ["a", "Which river?", "xyz"],
    "nothing": [[98, 99, 100], [7], [55, 98, 99, 100, 33]],
    "all": [BEGINNING, BEGINNING],
}


@pytest.fixture(scope="module", params=["llama", *ATTENTION, *RECURRENT])
def model(request: pytest.FixtureRequest) -> PreTrainedModel:
    return made(request.param)


@pytest.fixture(scope="module", params=["llama", *ATTENTION])
def sharing(request: pytest.FixtureRequest) -> PreTrainedModel:
    return made(request.param)


@pytest.fixture(scope="module")
def llama() -> LlamaForCausalLM:
    return tiny.llama()


def encoded(tokenizer: PreTrainedTokenizerFast, prompts: list[Any]) -> list[list[int]]:
    return [tokenizer(one)["input_ids"] if isinstance(one, str) else one for one in prompts]


def expected(model: PreTrainedModel, ids: list[int]) -> torch.Tensor:
    """The slow truth: the last position of one pass over the whole sequence alone."""
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0, -1].float().log_softmax(-1)


@contextmanager
def read_shapes(model: PreTrainedModel) -> Iterator[list[tuple[int, ...]]]:
    """Rows and tokens of every pass through the model."""
    shapes: list[tuple[int, ...]] = []

    def note(_: Any, __: Any, told: dict[str, Any]) -> None:
        shapes.append(tuple(told["input_ids"].shape))

    handle = model.register_forward_pre_hook(note, with_kwargs=True)
    try:
        yield shapes
    finally:
        handle.remove()


@pytest.mark.parametrize("shared", PROMPTS)
def test_greedy_answers_are_those_of_each_prompt_alone(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, shared: str
) -> None:
    """Token by token from the whole sequence anew, with no cache at all."""
    prompts = PROMPTS[shared]
    found = generate(model, tokenizer, prompts, max_new_tokens=9, stop=None)
    for ids, answer in zip(encoded(tokenizer, prompts), found, strict=True):
        sequence, values = list(ids), []
        for _ in range(9):
            log_p = expected(model, sequence)
            sequence.append(int(log_p.argmax()))
            values.append(float(log_p.max()))
        new = sequence[len(ids) :]
        end = new.index(1) if 1 in new else 9
        assert answer.ids == tuple(new[:end])
        assert answer.log_probabilities == pytest.approx(values[:end], abs=1e-5)


def test_without_sharing_not_a_digit_is_different(
    sharing: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = PROMPTS["a long beginning"]
    found = generate(sharing, tokenizer, prompts, max_new_tokens=20, stop=None)
    monkeypatch.setattr(import_module("gnuq.language_models.generate"), "read", lambda *_: None)
    plain = generate(sharing, tokenizer, prompts, max_new_tokens=20, stop=None)
    for one, other in zip(found, plain, strict=True):
        assert (one.ids, one.finished) == (other.ids, other.finished)
        assert one.log_probabilities == pytest.approx(other.log_probabilities, abs=1e-10)


@pytest.mark.parametrize("shared", PROMPTS)
@pytest.mark.parametrize("batch_size", [3, 16])
def test_the_next_token_is_expected_as_if_alone(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, shared: str, batch_size: int
) -> None:
    prompts = PROMPTS[shared]
    found = next_token(model, tokenizer, prompts, batch_size=batch_size)
    truth = torch.stack([expected(model, ids) for ids in encoded(tokenizer, prompts)])
    torch.testing.assert_close(found, truth, atol=1e-5, rtol=0)
    assert found.exp().sum(1).tolist() == pytest.approx([1.0] * len(prompts), abs=1e-5)


def test_the_next_token_in_single_precision(tokenizer: PreTrainedTokenizerFast) -> None:
    model = tiny.llama(dtype=torch.float32)
    prompts = PROMPTS["a long beginning"]
    together = next_token(model, tokenizer, prompts)
    single = torch.cat([next_token(model, tokenizer, [one]) for one in prompts])
    assert together.dtype == torch.float32
    torch.testing.assert_close(together, single, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("prompts", "length"),
    [
        ([[5, 6, 7], [5, 6, 8, 9]], 2),
        ([[5, 6], [5, 6, 7]], 1),  # a token of each is left, to be continued from
        ([[5, 6, 7], [5, 6, 7]], 2),
        ([[5, 6, 7]], 2),
        ([[5], [5]], 0),
        ([[5, 6], [7, 6]], 0),
    ],
)
def test_the_longest_common_beginning_leaves_each_prompt_a_token(
    llama: LlamaForCausalLM, prompts: list[list[int]], length: int
) -> None:
    found = prefix.read(llama, prompts)
    assert found is not None
    assert (found.length, found.cache.get_seq_length()) == (length, length)


@pytest.mark.parametrize("name", [*ATTENTION, *RECURRENT])
def test_what_is_shared_is_what_can_be_copied_row_by_row(name: str) -> None:
    """Keys and values can; the state of recurrent layers, alone or beside them, is not copied."""
    found = prefix.read(made(name), [[5, 6, 7], [5, 6, 8]])
    assert (found is None) == (name in RECURRENT)


@pytest.mark.filterwarnings("ignore:Position ids are not supported")
def test_a_tuned_prompt_in_front_is_not_shared(tokenizer: PreTrainedTokenizerFast) -> None:
    peft = pytest.importorskip("peft")
    settings = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)
    tuned = peft.get_peft_model(tiny.llama(), settings).eval()
    assert prefix.read(tuned, [[5, 6, 7], [5, 6, 8]]) is None
    given = encoded(tokenizer, PROMPTS["a long beginning"])
    torch.testing.assert_close(
        next_token(tuned, tokenizer, given),
        torch.stack([expected(tuned, ids) for ids in given]),
        atol=1e-5,
        rtol=0,
    )


def test_nothing_is_read_twice(llama: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    """The beginning once a call, the rest once a prompt; then one token a row and pass."""
    prompts = PROMPTS["a long beginning"]
    ids = encoded(tokenizer, prompts)
    shared = len(tokenizer(BEGINNING)["input_ids"])
    with read_shapes(llama) as shapes:
        generate(llama, tokenizer, prompts, temperature=1.0, samples=3, seed=0, batch_size=6)
    longest = [max(map(len, ids[i : i + 2])) - shared - 1 for i in (0, 2)]
    assert shapes[0] == (1, shared)
    assert [one for one in shapes if one[1] > 1] == [(1, shared), *((2, n) for n in longest)]
    with read_shapes(llama) as shapes:
        next_token(llama, tokenizer, prompts, batch_size=4)
    assert shapes == [(1, shared), (4, max(map(len, ids)) - shared - 1), (4, 1)]


def test_a_prefix_can_be_continued_again(llama: LlamaForCausalLM) -> None:
    """Its own row stays as it was read."""
    prompts = [[5, 6, 7, 8, 9], [5, 6, 2, 3]]
    found = prefix.read(llama, prompts)
    assert found is not None
    first = prefix.continued(llama, found, prompts)
    again = prefix.continued(llama, found, prompts)
    assert found.cache.get_seq_length() == 2
    for one, other in zip(first.layers, again.layers, strict=True):
        assert torch.equal(one.keys, other.keys)
        assert torch.equal(one.values, other.values)


@pytest.mark.bad_input
def test_prompts_without_a_next_token_are_refused(
    llama: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    with pytest.raises(TypeError, match="prompts: it is one text"):
        next_token(llama, tokenizer, "a")
    with pytest.raises(ValueError, match="prompts: there are none"):
        next_token(llama, tokenizer, [])
    with pytest.raises(ValueError, match="prompts: prompt 1 is empty"):
        next_token(llama, tokenizer, [[5], []])
    with pytest.raises(ValueError, match="prompt 0 has 128 tokens.*more than the model's 128"):
        next_token(llama, tokenizer, [[5] * 128])
    with pytest.raises(ValueError, match="batch_size: 0"):
        next_token(llama, tokenizer, ["a"], batch_size=0)
    with pytest.raises(ValueError, match=r"model\.eval"):
        next_token(tiny.llama().train(), tokenizer, ["a"])
