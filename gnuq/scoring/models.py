"""Whether a model and a tokenizer can be scored; each refusal names the remedy."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from gnuq.gradnorm import checks, quantized_checks
from gnuq.language_models import texts
from gnuq.scoring.batches import dtype_of
from gnuq.scoring.examples import Example, ScoreError
from gnuq.scoring.heads import logits_at, virtual_positions
from gnuq.scoring.learnt_prompts import learnt_positions
from gnuq.scoring.passes import Batch

#: The models that passed, and what of them would change what they compute behind their head.
_passed: WeakKeyDictionary[nn.Module, tuple] = WeakKeyDictionary()


def right_kinds(model: Any, tokenizer: Any) -> None:
    """The model is one of Hugging Face, and the tokenizer can be called.

    Raises:
        TypeError: one of them is not.
    """
    if not all(hasattr(tokenizer, name) for name in ("__call__", "__len__", "bos_token_id")):
        raise TypeError(
            f"tokenizer: expected the model's, got {type(tokenizer).__name__}; of a processor, "
            "give its tokenizer."
        )
    if not isinstance(model, nn.Module) or not hasattr(model, "get_output_embeddings"):
        raise TypeError(
            f"model: expected a Hugging Face causal language model, got {type(model).__name__}; "
            "load one with transformers.AutoModelForCausalLM."
        )


def ready(model: Any, tokenizer: Any) -> None:
    """The model is a causal language model in evaluation mode, and the tokenizer its own.

    Raises:
        TypeError: not a Hugging Face model.
        ScoreError: no language-model head, an encoder or encoder–decoder, non-finite weights, a
            model in training mode, or a tokenizer of another vocabulary.
        UnsupportedModuleError: a quantised layer whose backward pass cannot be trusted.
    """
    right_kinds(model, tokenizer)
    _generates(model)
    if any(parameter.device.type == "meta" for parameter in model.parameters()):
        raise ScoreError(
            "model: some of its weights are not in memory (offloaded to CPU or disk, or on the "
            "meta device); load it whole, or quantised, or over several GPUs (device_map='auto')."
        )
    if model.training:
        raise ScoreError("model: it is in training mode; call model.eval() first.")
    _same_vocabulary(model, tokenizer)
    try:
        checks.ready(model)
    except ValueError as error:
        raise ScoreError(str(error)) from error
    quantized_checks.check(model)
    if _passed.get(model) != (seen := _looks(model)):
        _causal(model)
        _passed[model] = seen


def _looks(model: Any) -> tuple:
    head = model.get_output_embeddings()
    hooks = [[*x._forward_hooks, *x._forward_pre_hooks] for x in (model, head)]
    return (id(head), str(hooks), id(vars(model).get("forward")), id(type(model).forward))


def _generates(model: Any) -> None:
    kind = type(model).__name__
    if model.get_output_embeddings() is None:
        raise ScoreError(
            f"model: {kind} has no language-model head, so it gives no token a probability; load "
            "it with transformers.AutoModelForCausalLM. (For a classifier, use "
            "gnuq.estimators.epistemic.)"
        )
    if getattr(model.config, "is_encoder_decoder", False):
        raise ScoreError(f"model: {kind} is an encoder–decoder; score takes decoders only.")


def rows_of(model: Any) -> int:
    """The number of ids that the model knows: the rows of its input embedding."""
    embedding = model.get_input_embeddings()
    return int(getattr(embedding, "num_embeddings", 0) or embedding.weight.shape[0])


def _same_vocabulary(model: Any, tokenizer: Any) -> None:
    """The two sizes differ at most as padding of the embedding makes them differ."""
    known, rows = len(tokenizer), rows_of(model)
    if abs(known - rows) > max(512, rows // 100):
        raise ScoreError(
            f"tokenizer: it has {known} tokens, the model's embedding {rows} rows, so it is not "
            "this model's; load both from the same place."
        )


def _causal(model: nn.Module) -> None:
    """A token must not change the logits before it, or p(y_t | y_<t) is not what comes out.

    And the positions and the mask that batches are given must change nothing where all is seen.
    """
    a, b = (Batch.of(model, [Example((1, 2, 1), (last,))]).inputs for last in (1, 2))
    added = ("position_ids", "attention_mask")
    own, unmasked = ({k: v for k, v in a.items() if k not in added[:n]} for n in (1, 2))
    try:
        with torch.no_grad(), quantized_checks.uncoupled(model):
            logits = [model(**given).logits.float() for given in (a, b, own, unmasked)]
    except (AttributeError, IndexError, RuntimeError, TypeError, ValueError) as error:
        raise ScoreError(
            f"model: {type(model).__name__} fails on four tokens ({error}); score takes models "
            "that give logits for token ids."
        ) from error
    start = virtual_positions(model, logits[0], 4)
    first, second, third, fourth = (x[:, start : start + 3] for x in logits)
    tolerance = (1e-2 if dtype_of(model).itemsize < 4 else 1e-4) * float(first.abs().max())
    _head_last(model, a, first[:, 1:], tolerance)
    if float((first - second).abs().max()) > tolerance:
        raise ScoreError(
            f"model: {type(model).__name__} sees later tokens (an encoder or masked language "
            "model); score takes causal models only."
        )
    if float((first - third).abs().max()) > tolerance:
        raise ScoreError(
            f"model: {type(model).__name__} does not count positions from nought, so batches "
            "cannot be padded; score takes models that do."
        )
    if float((first - fourth).abs().max()) > tolerance:
        raise ScoreError(
            f"model: {type(model).__name__} gives other logits with an attention mask that hides "
            "nothing than without one, so batches cannot be padded; score takes models that do not."
        )


def _head_last(
    model: nn.Module, inputs: dict[str, Any], expected: Tensor, tolerance: float
) -> None:
    """The logits of some positions are what they are among those of all."""
    positions, found = torch.tensor([[1, 2]], device=expected.device), torch.empty(0)
    with (
        torch.no_grad(),
        quantized_checks.uncoupled(model),
        logits_at(model, positions, 4),
        suppress(IndexError, RuntimeError),
    ):
        found = model(**inputs).logits.float()
    if found.shape != expected.shape or float((found - expected).abs().max()) > tolerance:
        raise ScoreError(
            f"model: {type(model).__name__} changes its logits behind the output embedding by "
            "other positions or by the ids (a hook, a penalty for repetition), so it cannot be "
            "scored at the answer's positions alone; remove what does."
        )


def fits(model: Any, examples: Sequence[Example]) -> dict[int, str]:
    """What is wrong with each example that this model cannot take, by its index."""
    limit, rows = texts.context_of(model), rows_of(model)
    wrong = {}
    for i, example in enumerate(examples):
        if limit is not None and len(example) + learnt_positions(model) > limit:
            wrong[i] = (
                f"{len(example.prompt)} tokens of prompt and {len(example.answer)} of answer do "
                f"not fit the model's context of {limit}; shorten the prompt"
            )
        elif not all(0 <= token < rows for token in example.ids):
            wrong[i] = f"an id is outside the model's vocabulary of {rows}"
    return wrong


def name_of(model: Any) -> str:
    """What the model was loaded from, or its class."""
    return str(getattr(model.config, "_name_or_path", "") or type(model).__name__)
