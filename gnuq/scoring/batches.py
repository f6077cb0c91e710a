"""Batches of answers of similar length, sized to a memory budget."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import psutil
import torch
from torch import nn

from gnuq.gradnorm.quantized_checks import coupled_layers
from gnuq.scoring.examples import Example, ScoreError
from gnuq.scoring.passes import device_of

#: What a pass keeps, in units of the layers' inputs and outputs; measured in the tests.
KEPT = 1.1
#: The tensors of size vocabulary that a token of an answer costs at the same time, in float32.
LOGITS = 5
#: Bytes of a batch's activations on a CPU, by default: more answers at once are not faster there.
MOST = 2.0**30


def bytes_per_token(model: nn.Module) -> int:
    """About what one token's activations take: the inputs and outputs of all weight layers."""
    width, routed = 0, int(getattr(model.config, "num_experts_per_tok", 0) or 1)
    head = model.get_output_embeddings()  # type: ignore[operator]
    for module in model.modules():
        if module is not head and not isinstance(module, nn.Embedding):
            width += _width(module, routed)
    return int(KEPT * width * dtype_of(model).itemsize)


def _width(module: nn.Module, routed: int) -> int:
    """Numbers of a token's input and output in one layer; of every expert that it goes to."""
    sizes = [getattr(module, name, None) for name in ("in_features", "out_features")]
    if all(isinstance(size, int) for size in sizes):
        return sum(size for size in sizes if size)
    if isinstance(up := getattr(module, "gate_up_proj", None), nn.Parameter):
        return routed * (up.shape[-1] + 3 * up.shape[-2])
    weight = getattr(module, "weight", None)
    if not isinstance(weight, nn.Parameter) or weight.ndim > 2:
        return 0
    return 2 * len(weight) if weight.ndim == 1 else sum(weight.shape)  # a norm layer, or Conv1D


def bytes_per_answer_token(model: nn.Module) -> int:
    """What the logits of one token of an answer take, and what is computed from them."""
    config = model.config
    return LOGITS * 4 * int(getattr(config, "vocab_size", 0))  # type: ignore[arg-type]


def dtype_of(model: nn.Module) -> torch.dtype:
    """The data type that the model computes in."""
    found = getattr(model, "dtype", None)
    return found if isinstance(found, torch.dtype) else torch.float32


def budget_of(model: nn.Module, memory: float | None) -> float:
    """Bytes for the activations of a batch.

    Args:
        model: says which device.
        memory: GiB; if omitted, half of what is free on a GPU; on a CPU a quarter of what is free,
            at most `MOST`.

    Raises:
        ScoreError: not positive.
    """
    if memory is not None:
        if not isinstance(memory, (int, float)) or not memory > 0:
            raise ScoreError(f"memory: {memory!r} GiB; give a positive number.")
        return memory * 2**30
    device = device_of(model)
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] / 2
    return min(psutil.virtual_memory().available / 4, MOST)


def batches(
    model: nn.Module, examples: Sequence[Example], budget: Callable[[], float]
) -> Iterator[list[int]]:
    """Indices of the examples of one batch after the other, the longest first.

    A batch takes as many as fit the budget, at least one; the longest comes first, so that a run
    that does not fit fails at once. The budget is asked for each batch: it may shrink. Layers that
    couple the examples of a batch (8-bit ones with a threshold for outliers) get them one by one.
    """
    per_token, per_answer = bytes_per_token(model), bytes_per_answer_token(model)
    alone = bool(coupled_layers(model))
    waiting = sorted(range(len(examples)), key=lambda i: (-len(examples[i]), i))
    while waiting:
        length, answer, count = len(examples[waiting[0]]), 0, 0
        for i in waiting:
            answer = max(answer, len(examples[i].answer))
            if count and (
                alone or (count + 1) * (length * per_token + answer * per_answer) > budget()
            ):
                break
            count += 1
        yield waiting[:count]
        waiting = waiting[count:]


def short_of_memory(error: BaseException | None) -> bool:
    """Whether an error says that memory ran out, on a GPU or not; it may be wrapped in another."""
    while error is not None:
        exhausted = isinstance(error, (torch.OutOfMemoryError, MemoryError))
        if exhausted or "can't allocate memory" in str(error):  # as torch says of a CPU
            return True
        error = error.__cause__
    return False
