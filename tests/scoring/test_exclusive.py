"""Threads, and the modes that a caller may be in: a score is the same, or refused."""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch

import gnuq
from gnuq.scoring.errors import ScoreError
from gnuq.scoring.exclusive import exclusive
from gnuq.scoring.heads import logits_at
from tests import tiny

TOKENIZER = tiny.tokenizer()
PROMPTS = [e.prompt for e in tiny.EXAMPLES]
ANSWERS = [e.answer for e in tiny.EXAMPLES]


def score(model: Any) -> gnuq.Scores:
    return gnuq.score(model, TOKENIZER, PROMPTS, ANSWERS)


def test_two_scorers_on_one_model_take_turns() -> None:
    model = tiny.model("llama")
    expected = score(model)
    shares = expected.by_token(0).share

    def work(i: int) -> np.ndarray:
        return score(model).epistemic if i % 2 else expected.by_token(0).share.to_numpy()

    with ThreadPoolExecutor(4) as pool:
        for i, found in enumerate(pool.map(work, range(12))):
            np.testing.assert_allclose(found, expected.epistemic if i % 2 else shares, rtol=1e-9)
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_wrappers_share_the_models_lock() -> None:
    peft = pytest.importorskip("peft")
    base, held, waited = tiny.model("llama"), threading.Event(), []
    wrapped = peft.get_peft_model(base, peft.LoraConfig(r=2, target_modules=["q_proj"]))

    def second() -> None:
        held.wait()
        with exclusive(wrapped):
            waited.append(len(waited))

    thread = threading.Thread(target=second)
    thread.start()
    with exclusive(base), exclusive(base):  # one thread may hold it twice
        held.set()
        thread.join(0.1)
        assert not waited
    thread.join()
    assert waited == [0]


def test_a_thread_that_serves_the_model_sees_its_head_untouched() -> None:
    model, ids = tiny.model("llama"), torch.tensor([[1, 5, 9, 14, 22, 7]])
    expected, seen = model(input_ids=ids).logits, []

    def serve() -> None:
        seen.append(model(input_ids=ids).logits)

    with logits_at(model, torch.tensor([[2, 3]]), 6):
        thread = threading.Thread(target=serve)
        thread.start()
        thread.join()
        torch.testing.assert_close(model(input_ids=ids).logits, expected[:, 2:4])
    torch.testing.assert_close(seen[0], expected)


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad])
def test_modes_without_gradients_change_nothing(mode: Any) -> None:
    model = tiny.model("llama")
    expected = score(model)
    shares = expected.by_token(0).share
    with mode():
        found = score(model)
        np.testing.assert_array_equal(found.by_token(0).share, shares)
        assert torch.is_grad_enabled() is False
    np.testing.assert_array_equal(found.epistemic, expected.epistemic)


def test_autocast_is_refused() -> None:
    model = tiny.model("llama", torch.float32)
    scores = score(model)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for work in (lambda: score(model), lambda: scores.by_token(0)):
            with pytest.raises(ScoreError, match="autocast is on for cpu.*score outside of it"):
                work()
    with torch.autocast("cpu", enabled=False):
        assert score(model).epistemic[0] == pytest.approx(scores.epistemic[0])


def test_a_lock_does_not_keep_a_model_alive() -> None:
    import gc
    import weakref

    model = tiny.model("llama")
    score(model)
    known = weakref.ref(model)
    del model
    gc.collect()
    assert known() is None


def test_many_threads_on_models_of_their_own() -> None:
    models = [tiny.model("llama", seed=i) for i in range(3)]
    expected = [score(model).epistemic for model in models]
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda m: score(m).epistemic, models))
    counts = Counter(np.allclose(a, b, rtol=1e-9) for a, b in zip(found, expected, strict=True))
    assert counts == {True: 3}
