"""What is generated is what the model says: alone or in a batch, token by token."""

from __future__ import annotations

import pytest
import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from gnuq.language_models import Generated, Loaded, decoding, generate
from tests.language_models import tiny
from tests.language_models.tiny import PROMPTS


def greedy(model: LlamaForCausalLM, ids: list[int], steps: int) -> list[int]:
    """The slow truth: the likeliest token each time, from the whole sequence anew."""
    sequence = list(ids)
    with torch.no_grad():
        for _ in range(steps):
            sequence.append(int(model(torch.tensor([sequence])).logits[0, -1].argmax()))
    return sequence[len(ids) :]


def forced(model: LlamaForCausalLM, prompt: list[int], answer: Generated) -> torch.Tensor:
    """Log-probabilities of the answer's tokens from one forward pass over the whole sequence."""
    sequence = torch.tensor([[*prompt, *answer.ids]])
    with torch.no_grad():
        log_p = model(sequence).logits[0].log_softmax(-1)
    places = range(len(prompt) - 1, sequence.shape[1] - 1)
    return torch.stack([log_p[i, token] for i, token in zip(places, answer.ids, strict=True)])


@pytest.mark.parametrize("batch_size", [1, 2, 16])
def test_greedy_answers_are_those_without_batch_and_padding(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, batch_size: int
) -> None:
    found = generate(model, tokenizer, PROMPTS, max_new_tokens=12, stop=None, batch_size=batch_size)
    for prompt, answer in zip(PROMPTS, found, strict=True):
        expected = greedy(model, tokenizer(prompt)["input_ids"], 12)
        end = expected.index(1) if 1 in expected else 12
        assert answer.ids == tuple(expected[:end])
        assert answer.finished == (end < 12)
        assert answer.text == tokenizer.decode(answer.ids, skip_special_tokens=True)


@pytest.mark.parametrize("temperature", [0.0, 0.5, 1.0])
def test_log_probabilities_are_the_models_own_at_every_temperature(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, temperature: float
) -> None:
    found = generate(
        model, tokenizer, PROMPTS, max_new_tokens=12, temperature=temperature, top_p=0.9, seed=3
    )
    kept = [(p, answer) for p, answer in zip(PROMPTS, found, strict=True) if answer.ids]
    assert kept
    for prompt, answer in kept:
        expected = forced(model, tokenizer(prompt)["input_ids"], answer)
        given = torch.tensor(answer.log_probabilities)
        torch.testing.assert_close(given, expected, atol=1e-5, rtol=1e-5)


def test_a_seed_repeats_sampling_and_leaves_the_state_outside_alone(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    def sample(seed: int | None) -> list[Generated]:
        return generate(model, tokenizer, PROMPTS, temperature=1.0, samples=3, seed=seed)

    before = torch.get_rng_state()
    assert sample(1) == sample(1) != sample(2)
    assert torch.equal(torch.get_rng_state(), before)
    assert sample(None) != sample(None)


def test_the_samples_of_a_prompt_follow_each_other(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    """One allowed token is the greedy one, so each prompt is told by its answers."""
    once = generate(model, tokenizer, PROMPTS, max_new_tokens=8)
    found = generate(
        model, tokenizer, PROMPTS, max_new_tokens=8, temperature=1.0, top_k=1, samples=3,
        batch_size=6,
    )  # fmt: skip
    assert [one.ids for one in found] == [one.ids for one in once for _ in range(3)]


def test_sampling_has_the_models_probabilities(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    found = generate(
        model, tokenizer, ["ab"], max_new_tokens=1, temperature=1.0, samples=4000, seed=0, stop=None
    )
    with torch.no_grad():
        p = model(torch.tensor([tokenizer("ab")["input_ids"]])).logits[0, -1].softmax(-1)
    likeliest = int(p.argmax())
    share = sum(one.ids == (likeliest,) for one in found) / len(found)
    assert abs(share - float(p[likeliest])) < 4 * (float(p[likeliest]) / len(found)) ** 0.5


def test_an_answer_ends_before_any_of_the_end_tokens(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    whole = generate(model, tokenizer, PROMPTS[:1], max_new_tokens=12, stop=None)[0]
    shipped = model.generation_config.eos_token_id
    model.generation_config.eos_token_id = [1, whole.ids[5]]
    try:
        cut = generate(model, tokenizer, PROMPTS[:2], max_new_tokens=12, stop=None)[0]
    finally:
        model.generation_config.eos_token_id = shipped
    length = whole.ids.index(whole.ids[5])
    assert cut.ids == whole.ids[:length]
    assert cut.log_probabilities == pytest.approx(whole.log_probabilities[:length], abs=1e-5)
    assert cut.finished


def test_an_answer_ends_before_the_stop_text(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    whole = generate(model, tokenizer, PROMPTS, max_new_tokens=20, stop=None)
    stop = tokenizer.decode(whole[1].ids[4:6])
    found = generate(model, tokenizer, PROMPTS, max_new_tokens=20, stop=stop)
    for before, after in zip(whole, found, strict=True):
        cut = before.text.find(stop)
        kept = before.text if cut < 0 else before.text[:cut]
        assert after.text == kept
        assert after.ids == before.ids[: len(after.ids)]
        assert after.finished == (before.finished or cut >= 0)
    assert len(found[1].ids) <= 4


@pytest.mark.parametrize(
    ("text", "stop", "kept"),
    [
        ("Paris\nQ", "\n", "Paris"),
        ("Paris.\nQ", "\n", "Paris"),  # the full stop and the newline are one token
        ("\nQ", "\n", ""),
        ("a\n\nb", "\n\n", "a"),
        ("naïve Q:", "Q:", "naïve "),
        ("Paris", "\n", None),
    ],
)
def test_a_token_that_reaches_into_the_stop_text_is_dropped(
    tokenizer: PreTrainedTokenizerFast, text: str, stop: str, kept: str | None
) -> None:
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    length = decoding.before(stop, tokenizer, ids)
    assert (None if length is None else tokenizer.decode(ids[:length])) == kept


def test_the_authors_settings_do_not_act_and_stay(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    plain = generate(model, tokenizer, PROMPTS, max_new_tokens=12)
    other = tiny.llama()
    told = {"do_sample": True, "temperature": 0.3, "repetition_penalty": 5.0, "min_new_tokens": 12}
    other.generation_config.update(**told, bad_words_ids=[[plain[0].ids[0]]])
    assert generate(other, tokenizer, PROMPTS, max_new_tokens=12) == plain
    assert other.generation_config.repetition_penalty == 5.0


def test_a_prompt_begins_once_and_is_not_closed(model: LlamaForCausalLM) -> None:
    closing = tiny.tokenizer(closes=True)
    ids = tiny.tokenizer()("ab")["input_ids"]
    given = ["ab", "<s>ab", ids]
    found = generate(model, closing, given, max_new_tokens=8)
    assert found[0].ids == found[1].ids == found[2].ids


def test_what_load_returned_can_be_given_as_it_is(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    loaded = Loaded(model, tokenizer, "tiny", None, None, "float64", None)
    assert generate(loaded, tokenizer, ["a"]) == generate(model, tokenizer, ["a"])
    assert generate(loaded, tokenizer, []) == []


def test_an_adapted_model_generates_and_keeps_its_settings(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    peft = pytest.importorskip("peft")
    base = tiny.llama()
    shipped = base.generation_config
    adapted = peft.get_peft_model(base, peft.LoraConfig(task_type="CAUSAL_LM", r=2)).eval()
    assert generate(adapted, tokenizer, PROMPTS) == generate(tiny.llama(), tokenizer, PROMPTS)
    assert base.generation_config is shipped


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens: 0"),
        ({"samples": 0}, "samples: 0"),
        ({"samples": 2}, "samples: at temperature 0"),
        ({"temperature": -1.0}, "temperature: -1.0"),
        ({"temperature": float("nan")}, "temperature: nan"),
        ({"top_p": 0.0}, "top_p: 0.0"),
        ({"top_k": -1}, "top_k: -1"),
        ({"batch_size": 0}, "batch_size: 0"),
        ({"stop": ""}, "stop: it is empty"),
        ({"max_new_tokens": 127}, "prompt 0 has 2 tokens.*max_new_tokens=127.*model's 128"),
    ],
)
def test_settings_out_of_range_are_refused(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    settings: dict[str, object],
    message: str,
) -> None:
    with pytest.raises(ValueError, match=message):
        generate(model, tokenizer, ["a"], **settings)  # type: ignore[arg-type]


def test_prompts_that_cannot_be_continued_are_refused(model: LlamaForCausalLM) -> None:
    tokenizer = tiny.tokenizer(begins=False)
    with pytest.raises(TypeError, match="prompts: it is one text"):
        generate(model, tokenizer, "a")
    with pytest.raises(ValueError, match="prompts: prompt 1 is empty"):
        generate(model, tokenizer, ["a", ""])
    with pytest.raises(ValueError, match=r"model\.eval"):
        generate(tiny.llama().train(), tokenizer, ["a"])


@pytest.mark.parametrize("kind", ["PromptTuningConfig", "PromptEncoderConfig"])
def test_a_learnt_prompt_is_refused_since_peft_repeats_it(
    kind: str, tokenizer: PreTrainedTokenizerFast
) -> None:
    """If the two ways of generating agree again, the refusal has no reason any more."""
    peft = pytest.importorskip("peft")
    settings = getattr(peft, kind)(task_type="CAUSAL_LM", num_virtual_tokens=3)
    tuned = peft.get_peft_model(tiny.llama(), settings).eval()
    for name, parameter in tuned.named_parameters():
        if "prompt_encoder" in name:
            torch.nn.init.normal_(parameter)
    with pytest.raises(ValueError, match="peft repeats its learnt prompt at every token"):
        generate(tuned, tokenizer, [[5, 6, 7]])
    ids = torch.tensor([[5, 6, 7]])
    told = {"max_new_tokens": 12, "do_sample": False, "attention_mask": torch.ones_like(ids)}
    remembering, reading_all = (
        tuned.generate(input_ids=ids, use_cache=used, **told) for used in (True, False)
    )
    assert not torch.equal(remembering, reading_all)


@pytest.mark.parametrize("prompt", [[1, 1, 5], "<s><s> a", " <s> a"])
def test_a_prompt_that_begins_twice_is_refused(
    prompt: object, model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    begin = tokenizer.bos_token_id
    given = [begin, begin, 5] if isinstance(prompt, list) else prompt
    if isinstance(given, str):
        given = given.replace("<s>", tokenizer.bos_token)
    with pytest.raises(ValueError, match=r"prompt 0 begins with .* begin"):
        generate(model, tokenizer, [given])
