"""P(True) and other questions of one token, against a plain forward pass of a tiny model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from gnuq.qa import options, p_true
from gnuq.qa.equivalence import clusters
from gnuq.qa.judge_model import Judged, implication
from gnuq.qa.p_true import Demonstration
from tests.language_models import tiny

SHOWN = [
    Demonstration("Who?", ["me", "you"], "me", True),
    Demonstration("Why?", [], "no reason", False),
]
ASKED = [
    ("Where?", ["here", "there", "here"], "here"),
    ("When is\nit?", ["now"], "now"),
    ("How?", ["so", "like this"], "somehow"),
]


def blank_in_front() -> PreTrainedTokenizerFast:
    """Bytes, and words that have the blank before them within: as most tokenizers of models."""
    words = ["ĠA", "ĠB", "Ġyes", "Ġno"]
    parts = ["ĠA", "ĠB", "Ġy", "Ġye", "Ġyes", "Ġn", "Ġno"]
    letters = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *parts]
    merges = [("Ġ", "A"), ("Ġ", "B"), ("Ġ", "y"), ("Ġy", "e"), ("Ġye", "s")]
    merges += [("Ġ", "n"), ("Ġn", "o")]
    vocabulary = {piece: i for i, piece in enumerate(["<s>", "</s>", *letters])}
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([AddedToken("<s>", special=True), AddedToken("</s>", special=True)])
    assert all(word in vocabulary for word in words)
    return PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<s>", eos_token="</s>")


TOKENIZERS = {"blank within": blank_in_front, "blank apart": tiny.tokenizer}


def llama(limit: int = 2048) -> Any:
    return tiny.llama(vocab_size=270, max_position_embeddings=limit)


def alone(model: Any, tokenizer: Any, prompt: str, option: str) -> float:
    """log p of the option's last token, from one plain pass over the whole text."""
    ids = tokenizer(f"{prompt} {option}", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        return float(model(ids).logits[0, -2].log_softmax(-1)[ids[0, -1]])


@pytest.fixture(params=TOKENIZERS)
def tokenizer(request: pytest.FixtureRequest) -> Any:
    return TOKENIZERS[request.param]()


def test_the_prompt_shows_questions_samples_answers_and_marks() -> None:
    assert p_true.prompt(SHOWN, *ASKED[1]) == (
        "Question: Who?\nBrainstormed answers:\nme\nyou\nPossible answer: me\n"
        "Is the possible answer true or false?\nA) True\nB) False\nIt is: A\n\n"
        "Question: Why?\nPossible answer: no reason\n"
        "Is the possible answer true or false?\nA) True\nB) False\nIt is: B\n\n"
        "Question: When is it?\nBrainstormed answers:\nnow\nPossible answer: now\n"
        "Is the possible answer true or false?\nA) True\nB) False\nIt is:"
    )


def test_the_score_is_the_probability_of_a_at_that_position(tokenizer: Any) -> None:
    """Batched behind a shared beginning as alone; A and B leave room for the other words."""
    model = llama()
    prompts = [p_true.prompt(SHOWN, *one) for one in ASKED]
    found = p_true.p_true(model, tokenizer, prompts, batch_size=2)
    expected = [np.exp(alone(model, tokenizer, one, "A")) for one in prompts]
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert ((found > 0) & (found < 1)).all()
    assert found.std() > 0
    assert p_true.p_true(model, tokenizer, []).shape == (0,)


def test_which_token_an_option_is(tokenizer: Any) -> None:
    """With the blank in front where the demonstrations' tokens have it, else behind a blank."""
    prompt = p_true.prompt(SHOWN, *ASKED[0])
    lead, tokens = options.option_tokens(tokenizer, prompt, ("A", "B"))
    spelled = tokenizer.convert_ids_to_tokens(tokens)
    assert (lead, spelled) in [("", ["ĠA", "ĠB"]), (" ", ["A", "B"])]
    shown = tokenizer(prompt)["input_ids"]
    assert tokens[0] in shown
    assert tokens[1] in shown


def test_options_of_several_tokens_are_refused() -> None:
    with pytest.raises(ValueError, match="yes and no are not a single token each"):
        options.option_tokens(tiny.tokenizer(), "It is:", ("yes", "no"))
    with pytest.raises(ValueError, match="A and A are not a single token each, or the same one"):
        options.option_tokens(tiny.tokenizer(), "It is:", ("A", "A"))


def test_a_score_that_is_not_finite_is_an_error() -> None:
    model = llama()
    with torch.no_grad():
        model.lm_head.weight.fill_(float("nan"))
    with pytest.raises(ValueError, match="not finite"):
        p_true.p_true(model, tiny.tokenizer(), ["It is:"])


def test_a_narrow_context_shows_less_and_says_so() -> None:
    tokenizer = tiny.tokenizer()
    whole = len(tokenizer(p_true.prompt(SHOWN, *ASKED[0]) + " ")["input_ids"])
    fits = lambda limit: p_true.fitting(llama(limit), tokenizer, SHOWN, *ASKED[0])  # noqa: E731
    assert fits(whole) == (p_true.prompt(SHOWN, *ASKED[0]), 3)
    question, samples, answer = ASKED[0]
    assert fits(whole - 1) == (p_true.prompt(SHOWN, question, samples[:2], answer), 2)
    with pytest.raises(ValueError, match="demonstrations: with them the question takes"):
        fits(100)
    with pytest.raises(ValueError, match="prompts: prompt 0 has"):
        p_true.p_true(llama(whole - 1), tokenizer, [p_true.prompt(SHOWN, *ASKED[0])])


def test_demonstrations_leave_room_for_the_question() -> None:
    tokenizer = tiny.tokenizer()
    one = len(tokenizer(p_true.prompt(SHOWN[:1], "", [], ""))["input_ids"])
    two = len(tokenizer(p_true.prompt(SHOWN, "", [], ""))["input_ids"])
    for limit, count in ((two, 2), (two - 1, 1), (one, 1), (one - 1, 0)):
        model = llama(limit + p_true.ROOM)
        assert p_true.shortened(model, tokenizer, SHOWN) == SHOWN[:count]


def test_believed_gives_a_number_or_a_reason() -> None:
    model, tokenizer = llama(), tiny.tokenizer()
    asked = [ASKED[0], ("What?", ["x"], " "), ("x" * 3000, [], "x"), ASKED[2]]
    found = p_true.believed(model, tokenizer, SHOWN, asked, batch_size=2)
    prompts = [p_true.prompt(SHOWN, *one) for one in (ASKED[0], ASKED[2])]
    values = p_true.p_true(model, tokenizer, prompts)
    assert found[0] == (pytest.approx(values[0], rel=1e-6), None)
    assert found[3] == (pytest.approx(values[1], rel=1e-6), None)
    assert np.isnan([found[1][0], found[2][0]]).all()
    assert found[1][1] == "P(True): the answer is blank"
    assert found[2][1].startswith("P(True): demonstrations: with them the question takes")
    long = [("Where?", ["y" * 600, "z" * 1200], "here")]
    value, remark = p_true.believed(model, tokenizer, SHOWN, long)[0]
    assert value > 0
    assert remark == ("P(True): the context held 1 of 2 sampled answers and 2 of 2 demonstrations")


def judged(right: int, wrong: int, undecided: int = 0) -> pd.DataFrame:
    labels = [True] * right + [False] * wrong + [None] * undecided
    names = [f"q{i}" for i in range(len(labels))]
    return pd.DataFrame({"id": names, "correct": pd.array(labels, dtype="boolean")})


def test_demonstrations_are_half_right_half_wrong_and_drawn_by_seed() -> None:
    table = judged(50, 60, undecided=40)
    found = p_true.choose_demonstrations(table, 20, seed=0)
    labels = table.set_index("id").loc[found, "correct"].tolist()
    assert labels == [True, False] * 10
    assert len(set(found)) == 20
    shuffled = table.sample(frac=1, random_state=1)
    assert p_true.choose_demonstrations(shuffled, 20, seed=0) == found
    assert p_true.choose_demonstrations(table, 20, seed=1) != found


def test_demonstrations_leave_half_of_each_kind_to_evaluate() -> None:
    table = judged(3, 60)
    found = p_true.choose_demonstrations(table, 9, seed=0)
    labels = table.set_index("id").loc[found, "correct"].tolist()
    assert labels == [True, False, False, False, False]
    assert p_true.choose_demonstrations(judged(0, 1), 10, seed=0) == []
    assert p_true.choose_demonstrations(table, 0, seed=0) == []
    with pytest.raises(ValueError, match="count: -1 is negative"):
        p_true.choose_demonstrations(table, -1, seed=0)


def test_a_judge_of_equivalence_needs_yes_both_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    """Longer answers imply the shorter ones within them; only equal ones imply each other."""
    answers = ["red", "red car", "car", "car red"]

    def implies(first: str, second: str) -> bool:
        return set(second.split()) <= set(first.split())

    pairs = {implication("What?", a, b): implies(a, b) for a in answers for b in answers}
    assert len(pairs) == len(answers) ** 2

    def told(model: Any, tokenizer: Any, prompts: Any, words: Any, batch: int) -> np.ndarray:
        assert (model, tokenizer, words, batch) == ("model", "tokenizer", ("yes", "no"), 16)
        return np.array([[-1.0, -2.0] if pairs[one] else [-2.0, -1.0] for one in prompts])

    monkeypatch.setattr(options, "log_probabilities", told)
    same: Any = Judged("model", "tokenizer")
    assert same("What?", "red car", answers) == [False, True, False, True]
    assert same("What?", "red", answers) == [True, False, False, False]
    assert clusters("What?", answers, same) == [0, 1, 2, 1]
