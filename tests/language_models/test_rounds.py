"""Answers leave the batch when they end, and no other answer notices."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from scipy import stats
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from gnuq.language_models import generate, rounds
from tests.language_models import tiny
from tests.language_models.tiny import PROMPTS


def outcomes(
    model: LlamaForCausalLM, prompt: list[int], steps: int
) -> dict[tuple[int, ...], float]:
    """The probability of every answer: closed by the end token, or of so many tokens."""
    open_, closed = {(): 1.0}, {}
    for _ in range(steps):
        longer = {}
        for ids, weight in open_.items():
            with torch.no_grad():
                p = model(torch.tensor([[*prompt, *ids]])).logits[0, -1].softmax(-1).tolist()
            closed[*ids, 1] = weight * p[1]
            longer |= {(*ids, token): weight * p[token] for token in range(len(p)) if token != 1}
        open_ = longer
    return closed | open_


def test_whole_answers_have_the_models_probabilities_while_others_leave(
    tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five tokens, up to three of them: 85 answers; chi-square, prompts of two lengths together."""
    monkeypatch.setattr(rounds, "ROUND", 1)
    model, prompts, samples = tiny.llama(vocab_size=5), [[2, 3, 4], [2, 3, 3, 0, 2]], 3000
    found = generate(
        model, tokenizer, prompts, max_new_tokens=3, temperature=1.0, samples=samples, seed=0,
        stop=None, batch_size=2 * samples,
    )  # fmt: skip
    for i, prompt in enumerate(prompts):
        answers = found[i * samples : (i + 1) * samples]
        seen = Counter((*one.ids, 1) if one.finished else one.ids for one in answers)
        p = outcomes(model, prompt, 3)
        assert sum(p.values()) == pytest.approx(1)
        common = [ids for ids in p if p[ids] * samples >= 5]
        counts = [seen[ids] for ids in common]
        wanted = [p[ids] * samples for ids in common]
        rest = samples - sum(wanted)
        assert stats.chisquare([*counts, samples - sum(counts)], [*wanted, rest]).pvalue > 1e-3
        assert 0.05 < sum(one.finished for one in answers) / samples < 0.95


@pytest.mark.parametrize("tokens", [1, 7, 50])
def test_answers_do_not_depend_on_when_others_leave(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    monkeypatch: pytest.MonkeyPatch,
    tokens: int,
) -> None:
    """Some end at a text, some at their last token; each as it does alone."""
    whole = generate(model, tokenizer, PROMPTS, max_new_tokens=20, stop=None)
    stop = tokenizer.decode(whole[1].ids[4:6])
    alone = [generate(model, tokenizer, [one], max_new_tokens=20, stop=stop)[0] for one in PROMPTS]
    monkeypatch.setattr(rounds, "ROUND", tokens)
    found = generate(model, tokenizer, PROMPTS, max_new_tokens=20, stop=stop)
    assert {one.finished for one in found} == {True, False}
    for together, single in zip(found, alone, strict=True):
        assert (together.ids, together.finished) == (single.ids, single.finished)
        assert together.log_probabilities == pytest.approx(single.log_probabilities, abs=1e-6)


def test_an_answer_that_has_ended_is_not_carried_on(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With rounds of one token, each pass has as many rows as answers that go on."""
    monkeypatch.setattr(rounds, "ROUND", 1)
    whole = generate(model, tokenizer, PROMPTS, max_new_tokens=8, stop=None)
    ended = whole[0].ids[3]
    monkeypatch.setattr(model.generation_config, "eos_token_id", [1, ended])
    sizes: list[int] = []
    handle = model.register_forward_pre_hook(
        lambda _, __, told: sizes.append(len(told["input_ids"])), with_kwargs=True
    )
    found = generate(model, tokenizer, PROMPTS, max_new_tokens=8, stop=None)
    handle.remove()
    # the shared first token, what else the prompts say, then a pass a token, its end included
    lengths = [len(one.ids) + one.finished for one in found]
    assert min(lengths) <= 4 < max(lengths)
    assert sizes == [1, 5, *(sum(n > i for n in lengths) for i in range(max(lengths)))]
