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


@pytest.mark.parametrize("padded", [[2, 2, 5, 6], [5, 6, 2, 2], [2, 5, 6], [5, 6, 2], [2, 1, 5]])
def test_padding_with_the_end_token_is_refused_by_name(padded: list[int]) -> None:
    """Even a single one: a prompt one token shorter than the longest has just that."""
    shared = tiny.tokenizer()
    shared.pad_token = shared.eos_token
    with pytest.raises(ExampleError, match="seems to be padded with token 2"):
        Encoder(shared).encode(padded, [10])
    assert Encoder(shared).encode([1, 5, 2, 6], [10]).prompt == (1, 5, 2, 6)
    shared.pad_token = None  # the remedy that the message names
    if padded[:2] != [2, 1]:
        assert Encoder(shared).encode(padded, [10]).prompt == tuple(padded)


def test_a_token_that_begins_every_text_may_pad_too() -> None:
    begun = tiny.tokenizer()
    begun.pad_token = begun.bos_token
    assert Encoder(begun).encode([1, 5, 6], [10]).prompt == (1, 5, 6)
    for padded in ([1, 1, 5, 6], [1, 5, 6, 1]):
        with pytest.raises(ExampleError, match="seems to be padded with token 1"):
            Encoder(begun).encode(padded, [10])


@pytest.mark.parametrize("end", [False, True])
def test_answers_padded_by_one_or_more_on_either_side(end: bool) -> None:
    """With a padding token of its own, and with the end token; the first end was generated."""
    encoder, ended = Encoder(TOKENIZER, end=end), (2,) * end
    shared = tiny.tokenizer()
    shared.pad_token = shared.eos_token
    for own in ([0, 10, 11, 2], [0, 0, 10, 11, 2, 0], [10, 11, 2]):
        assert encoder.encode([5], own).answer == (10, 11, *ended)
    for count in (1, 2, 3):
        answer = [10, 11] + [2] * count
        assert Encoder(shared, end=end).encode([5], answer).answer == (10, 11, *ended)
        with pytest.raises(ExampleError, match="seems to be padded on the left"):
            Encoder(shared, end=end).encode([5], answer[::-1])
    assert encoder.encode([5], [10, 0, 11]).answer == (10, 0, 11)  # generated between others


@pytest.mark.parametrize("padding", [(), (0,), (0, 0, 0)])
def test_a_whole_output_of_generate_is_no_answer(padding: tuple[int, ...]) -> None:
    prompt, answer = (1, 5, 2, 6), (10, 11, 2)
    whole = torch.tensor([*padding, *prompt, *answer])
    remedy = rf"begin with the prompt's.*output\[{len(padding) + 4}:\]"
    with pytest.raises(ExampleError, match=remedy):
        ENCODER.encode(prompt, whole)
    with pytest.raises(ExampleError, match=remedy):
        ENCODER.encode(torch.tensor([*padding, *prompt]), whole)
    assert ENCODER.encode(prompt, whole[len(padding) + 4 :]).answer == (10, 11)
    text = (1, *ids("what is"))
    with pytest.raises(ExampleError, match="begin with the prompt's"):
        ENCODER.encode("what is", [*padding, *text, 10])


def test_a_whole_output_padded_with_the_end_token() -> None:
    shared = tiny.tokenizer()
    shared.pad_token = shared.eos_token
    with pytest.raises(ExampleError, match=r"begin with the prompt's.*output\[4:\]"):
        Encoder(shared).encode([1, 5], [2, 2, 1, 5, 10, 2])


def test_what_may_be_an_echo_is_said() -> None:
    with pytest.warns(UserWarning, match=r"token 5, which is all of its prompt.*output\[1:\]"):
        assert ENCODER.encode([5], [5, 10]).answer == (5, 10)
    with pytest.warns(UserWarning, match="begins with the whole text of its prompt"):
        assert ENCODER.encode("what is", "what is France").answer == ids("what is France")


@pytest.mark.parametrize("prompt", [[1, 1, 5], "<s> <s> what", " <s> what", "\n<s> what"])
def test_a_prompt_begins_once(prompt: object) -> None:
    with pytest.raises(ExampleError, match=r"begins with .* begin.* leave one, at the very start"):
        ENCODER.encode(prompt, [10])
    assert ENCODER.encode([1, 5, 2, 1, 6], [10]).prompt == (1, 5, 2, 1, 6)  # a second turn's


@pytest.mark.parametrize("answer", [[1, 10], "<s> Paris"])
def test_no_answer_begins_a_sequence(answer: object) -> None:
    with pytest.raises(ExampleError, match="the answer begins with the begin-of-sequence token 1"):
        ENCODER.encode("what is", answer)


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
