"""Score the answers of any causal language model: one forward and one backward pass a batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from gnuq.gradnorm.verification import Verify
from gnuq.language_models import texts
from gnuq.scoring import models, objectives
from gnuq.scoring.batches import budget_of
from gnuq.scoring.examples import Answer, Encoder, Example, ExampleError, Prompt, encode_all
from gnuq.scoring.exclusive import exclusive
from gnuq.scoring.scores import Scores
from gnuq.scoring.task import Row, Task, collected
from gnuq.scoring.weights import Parameters

#: Called with the numbers of answers that are done, and of all.
Progress = Callable[[int, int], None]


def score(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Prompt],
    answers: Sequence[Answer] | Tensor,
    *,
    objective: str = "mean_probability",
    params: Parameters = "all",
    chat: bool = False,
    end: bool = False,
    memory: float | None = None,
    verify: Verify = True,
    progress: Progress | None = None,
) -> Scores:
    """Epistemic and aleatoric uncertainty of generated answers.

    One thread at a time scores a model; others wait. The scores belong to the model as it is now:
    what is computed later from its weights is refused once these have changed.

    Args:
        model: a Hugging Face causal language model (the book lists the classes that are exact;
            others are refused by name), quantised or not, in evaluation mode. Its
            weights stay as they are, and no weight gradient is stored. Half precision costs
            digits of the gradient: in bfloat16 one answer's norm differs by up to 45 % from that
            in float32, and by as much from batch to batch; a few per cent on average.
        tokenizer: the model's own.
        prompts: texts, lists of chat messages, or token ids, one for each answer.
        answers: texts, or generated token ids (never tokenised anew), without the prompt's. All
            their tokens count, but no padding and no token that ends the sequence.
        objective: what is differentiated: "mean_probability" is the paper's, Eq. (9);
            "mean_log_probability", "joint_probability" and "token_average" (the average of
            ‖∇p_t‖² over the tokens, one backward pass for each) stand beside it.
        params: which weights count. "all"; "autograd": those that a backward pass would give a
            `.grad`, which leaves quantised and frozen weights out; "adapter" or "base": the
            weights of LoRA adapters, or all but those; or a function of a weight's name.
        chat: wrap prompts that are texts into the tokenizer's chat template.
        end: count the token that ends the sequence as the last one of each answer; of several
            that stand at the end of an answer's ids the first, since the others are padding.
        memory: GiB that a batch's activations may take; if omitted, half of a GPU's free
            memory, or a quarter of a machine's, at most one GiB.
        verify: differentiate the shortest answer of each batch on its own too, by plain autograd,
            and demand the same norm of every weight; and see that answers keep to their rows.
            "first": of the first batch only; False: of none.
        progress: called with the numbers of answers done and of all.

    Returns:
        One entry for each answer, in the order given.

    Raises:
        TypeError, ScoreError: the model or the tokenizer cannot be scored (see `models.ready`);
            prompts and answers of different number; an unknown objective; autocast; weights that
            change meanwhile.
        ExampleError: an empty answer, one that does not fit the context, that begins with the
            prompt or with a begin token, or whose score would not be finite; a prompt that begins
            twice, or is padded with a token of another meaning; the message names it.
        UnsupportedModuleError: a layer whose gradient cannot be accounted for exactly.

    Source:
        §3.4, Eq. (9)–(10); the aleatoric score is §3.4's (1/T) Σ_t p_t (1 − p_t).
    """
    objectives.check(objective)
    # as it was before torch.compile; not by getattr, which adapters hand on to what they wrap
    model = getattr(model, "_modules", {}).get("_orig_mod", model)
    models.right_kinds(model, tokenizer)
    with exclusive(model):
        models.ready(model, tokenizer)
        ends = frozenset(texts.ends(model, tokenizer))
        encoder = Encoder(tokenizer, chat=chat, end=end, ends=ends)
        examples = encode_all(encoder, prompts, answers)
        for i, reason in models.fits(model, examples).items():
            raise ExampleError(reason, i)
        task = Task(model, objective, budget_of(model, memory), verify)
        rows = _rows(task, examples, progress)
        return collected(task, tokenizer, examples, rows, params)


def _rows(task: Task, examples: list[Example], progress: Progress | None) -> list[Row]:
    """The rows of all examples, in their order.

    Raises:
        ExampleError: one of them has none.
    """
    rows: dict[int, Row] = {}
    for i, found in task.attempts(examples):
        if isinstance(found, ExampleError):
            raise ExampleError(found.reason, i) from found
        rows[i] = found
        if progress is not None:
            progress(len(rows), len(examples))
    return [rows[i] for i in range(len(examples))]
