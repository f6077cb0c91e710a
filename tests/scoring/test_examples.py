"""Prompts and answers become exactly the tokens that the model saw."""

from __future__ import annotations

import pytest
import torch

from gnuq.scoring import Encoder, ExampleError
from gnuq.scoring.examples import ScoreError, encode_all
from tests import tiny

TOKENIZER = tiny.tokenizer()
ENCODER = Encoder(TOKENIZER)


def ids(text: str) -> tuple[int, ...]:
    return tuple(TOKENIZER(text, add_special_tokens=False)["input_ids"])


def test_a_text_gets_the_first_token_and_its_answer_none() -> None:
    example = ENCODER.encode("what is A :", " Paris yes")
    assert example.prompt == (1, *ids("what is A :"))
    assert example.answer == ids("Paris yes")


def test_a_chat_template_is_not_given_a_second_first_token() -> None:
    messages = [{"role": "user", "content": "what is France"}]
    expected = (1, *ids("user : what is France A :"))
    assert ENCODER.encode(messages, "Paris").prompt == expected
    assert Encoder(TOKENIZER, chat=True).encode("what is France", " Paris").prompt == expected
    assert expected.count(1) == 1


@pytest.mark.parametrize("given", [[10, 11], (10, 11), torch.tensor([10, 11])])
def test_ids_are_left_as_they_are(given: object) -> None:
    example = ENCODER.encode([5, 6], given)
    assert (example.prompt, example.answer) == ((5, 6), (10, 11))


def test_padding_before_a_prompt_does_not_count() -> None:
    assert ENCODER.encode(torch.tensor([0, 0, 5, 6]), [10]).prompt == (5, 6)
    assert ENCODER.encode([5, 6, 0, 0], [10]).prompt == (5, 6)
    shared = tiny.tokenizer()
    shared.pad_token = shared.eos_token  # then one may be meant, two are padding
    assert Encoder(shared).encode([2, 5, 6], [10]).prompt == (2, 5, 6)
    for padded in ([2, 2, 5, 6], [5, 6, 2, 2]):
        with pytest.raises(ExampleError, match="seems to be padded"):
            Encoder(shared).encode(padded, [10])


def test_a_text_that_brings_its_first_or_last_token_keeps_just_that() -> None:
    assert ENCODER.encode("<s> what is", "Paris").prompt == (1, *ids("what is"))
    example = ENCODER.encode("what is </s>", "Paris")
    assert (example.prompt, example.answer) == ((1, *ids("what is"), 2), ids("Paris"))
    assert ENCODER.encode("what is", "Paris </s>").answer == ids("Paris")


def test_padding_and_the_end_of_a_generated_answer_do_not_count() -> None:
    assert ENCODER.encode([5], [10, 11, 2, 0, 0]).answer == (10, 11)
    assert ENCODER.encode([5], [10, 11, 2, 2, 2]).answer == (10, 11)
    assert ENCODER.encode([5], [10, 11, 0, 0]).answer == (10, 11)
    assert Encoder(TOKENIZER, ends=frozenset([7])).encode([5], [10, 7]).answer == (10,)


def test_the_end_counts_when_asked_for() -> None:
    assert Encoder(TOKENIZER, end=True).encode([5], [10, 11, 2, 0]).answer == (10, 11, 2)
    other = Encoder(TOKENIZER, end=True, ends=frozenset([7]))
    assert other.encode([5], [10, 7, 0]).answer == (10, 7)  # the one that was generated
    assert other.encode([5], [10, 11]).answer == (10, 11)  # cut off: none was
    assert Encoder(TOKENIZER, end=True).encode("A :", "Paris").answer == (*ids("Paris"), 2)


def test_an_answer_is_tokenised_behind_its_prompt() -> None:
    """A word piece at the border belongs to the answer only where the prompt ends in a token."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    pieces = {"▁a": 0, "▁b": 1, "b": 2, "▁": 3, "a": 4, "▁ab": 5}
    made = Tokenizer(models.BPE(pieces, [("▁", "a"), ("▁", "b"), ("▁a", "b")]))
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.decoder = decoders.Metaspace()
    encoder = Encoder(PreTrainedTokenizerFast(tokenizer_object=made))
    assert encoder.encode("a", " b").answer == (1,)
    straddling = encoder.encode("a", "b")
    assert straddling.prompt == (0,)
    assert straddling.answer == (1,)


@pytest.mark.parametrize(
    ("prompt", "answer", "told"),
    [
        ("what", "", "the answer is empty"),
        ("what", [], "the answer is empty"),
        ("what", [2, 0], "the answer is empty"),
        ("what", [10, 2, 11], "goes on after its end-of-sequence token"),
        ([], [10], "the prompt is empty"),
        ("what", None, "the answer is a NoneType, not a text or ids"),
        ("what", [1.5], "the answer is a list, not a text or ids"),
        ("what", ["Paris"], "the answer is a list, not a text or ids"),
        ("what", torch.ones(2, 2), "the answer has shape (2, 2)"),
        (7, "Paris", "the prompt is a int, not a text or ids"),
        ("what", b"Paris", "the answer is a bytes, not a text or ids"),
        ("what", torch.tensor([True]), "not ids"),
        ("\ud800", "Paris", "the prompt is no valid Unicode text"),
        ([{"role": "user", "content": 7}], "Paris", "needs a role and a content, both texts"),
    ],
)
def test_what_cannot_be_scored_says_why(prompt: object, answer: object, told: str) -> None:
    with pytest.raises(ExampleError) as found:
        ENCODER.encode(prompt, answer)
    assert told in str(found.value)


def test_no_template_and_no_end() -> None:
    with pytest.raises(ExampleError, match="no chat template; give the prompt as plain text"):
        Encoder(tiny.tokenizer(template=False), chat=True).encode("what", "Paris")
    endless = tiny.tokenizer()
    endless.eos_token = None
    with pytest.raises(ExampleError, match="no end-of-sequence token"):
        Encoder(endless, end=True).encode("what", "Paris")


@pytest.mark.parametrize(
    ("prompts", "answers", "told"),
    [
        (["a", "b"], ["c"], "answers: 1 of them for 2 prompts"),
        ([], [], "prompts: there are none"),
        ("what", ["Paris"], "prompts: expected a list"),
        (["what"], "Paris", "answers: expected a list"),
    ],
)
def test_lists_that_do_not_fit(prompts: object, answers: object, told: str) -> None:
    with pytest.raises(ScoreError) as found:
        encode_all(ENCODER, prompts, answers)
    assert told in str(found.value)


def test_the_bad_example_is_named() -> None:
    with pytest.raises(ExampleError, match=r"^example 1: the answer is empty"):
        encode_all(ENCODER, ["what", "is"], ["Paris", ""])


def test_a_table_of_generated_ids() -> None:
    found = encode_all(ENCODER, ["what", "is"], torch.tensor([[10, 2, 0], [11, 12, 2]]))
    assert [e.answer for e in found] == [(10,), (11, 12)]
