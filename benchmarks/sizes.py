"""Memory and time of scoring one answer, for models of 1, 3, 7 and 14 billion weights.

    python benchmarks/sizes.py                              # on the CPU
    python benchmarks/sizes.py --device cuda --limit 70     # GiB that a model may take
    python benchmarks/sizes.py --shapes olmo-1b --precisions bfloat16

The shapes are those of the paper's four models, the weights are random: that serves for time and
memory, and says nothing about scores. Nothing is downloaded. What fits the limit is measured, each
model in a process of its own: one answer of 16 tokens to a prompt of 128. `activations_gib` is
then what the pass takes beyond the weights, with an allocator that returns what is freed (see
`keep_freed`). The rest is an estimate, and the column `measured` says so: the weights' bytes are
exact all the same; the activations are what `gnuq.score` plans with, in NF4 with the largest
layer's dequantised weight; the time follows from the largest model that was measured in the same
precision, in proportion to the multiplications (weights of a layer × tokens that it sees).
`over_floor` is the time of our pass over that of a forward pass and a backward pass to the
activations alone.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import ctypes
import gc
import json
import os
import re
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import transformers as T
from torch import Tensor, nn

from gnuq.gradnorm import quantized_checks
from gnuq.scoring import Example, objectives, passes
from gnuq.scoring.batches import bytes_per_answer_token, bytes_per_token
from gnuq.scoring.task import Task

PROMPT, ANSWER = 128, 16
#: The types that a model computes in, by precision.
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "nf4": torch.bfloat16}
#: Weights that share one float32 scale in NF4, and the entries of its code book.
BLOCK, CODES = 64, 16
#: The share of a machine's memory that models are measured in, if no limit is given.
SHARE = 0.75
#: glibc's numbers for two settings, and their values: nothing kept, and what it comes to by itself.
MMAP_THRESHOLD, TRIM_THRESHOLD = -3, -1
NOTHING, AS_USUAL = 2**16, 2**25

#: Model → its configuration, from what its authors published; "tiny" is for the tests.
SHAPES: dict[str, Callable[[], Any]] = {
    "olmo-1b": lambda: T.OlmoConfig(
        vocab_size=50_304,
        hidden_size=2_048,
        intermediate_size=8_192,
        num_hidden_layers=16,
        num_attention_heads=16,
        tie_word_embeddings=True,
    ),
    "llama-3.2-3b": lambda: T.LlamaConfig(
        vocab_size=128_256,
        hidden_size=3_072,
        intermediate_size=8_192,
        num_hidden_layers=28,
        num_attention_heads=24,
        num_key_value_heads=8,
        tie_word_embeddings=True,
    ),
    "llama-2-7b": lambda: T.LlamaConfig(
        vocab_size=32_000,
        hidden_size=4_096,
        intermediate_size=11_008,
        num_hidden_layers=32,
        num_attention_heads=32,
    ),
    "phi-4-14b": lambda: T.Phi3Config(
        vocab_size=100_352,
        hidden_size=5_120,
        intermediate_size=17_920,
        num_hidden_layers=40,
        num_attention_heads=40,
        num_key_value_heads=10,
        pad_token_id=None,
    ),
    "tiny": lambda: T.LlamaConfig(
        vocab_size=256,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=True,
    ),
}
PAPER = tuple(name for name in SHAPES if name != "tiny")


def skeleton(shape: str, dtype: torch.dtype) -> Any:
    """The model without weights: they have shapes, and take no memory."""
    from accelerate import init_empty_weights

    with init_empty_weights(include_buffers=False):
        model = T.AutoModelForCausalLM.from_config(SHAPES[shape](), dtype=dtype)
    model.tie_weights()
    return model.eval()


def random_model(shape: str, dtype: torch.dtype, device: torch.device, *, nf4: bool = False) -> Any:
    """A model of this shape with random weights, made where they stay, one layer at a time."""
    model = skeleton(shape, dtype)
    if nf4:
        _make_nf4(model, dtype)
    made: dict[torch.Size, Any] = {}
    for module in model.modules():
        for name, weight in list(module.named_parameters(recurse=False)):
            if type(weight) is nn.Parameter:
                fresh: Any = nn.Parameter(_random(weight, device))
            else:
                fresh = _nf4(weight, dtype, device, made)
            setattr(module, name, fresh)
        for name, buffer in module.named_buffers(recurse=False):
            setattr(module, name, buffer.to(device))
    model.tie_weights()
    quantized_checks.check(model)
    return model


def _make_nf4(model: Any, dtype: torch.dtype) -> None:
    """Every linear layer but the head, as transformers does it."""
    from transformers.integrations.bitsandbytes import replace_with_bnb_linear

    settings = T.BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype
    )
    replace_with_bnb_linear(model, ["lm_head"], settings)


def _random(weight: Tensor, device: torch.device) -> Tensor:
    values = torch.ones(weight.shape, dtype=weight.dtype, device=device)
    return values.normal_(std=0.02) if weight.ndim > 1 else values


def _nf4(weight: Any, dtype: torch.dtype, device: torch.device, made: dict[torch.Size, Any]) -> Any:
    """Layers of one shape get equal weights: a CPU takes minutes to quantise them all."""
    if weight.shape not in made:
        values = _random(weight.to(dtype), device).cpu()  # quantised when sent to a device
        settings = {"quant_type": "nf4", "compress_statistics": False, "requires_grad": False}
        made[weight.shape] = type(weight)(values, **settings).to(device)
    return copy.deepcopy(made[weight.shape])


def layers(model: Any) -> list[nn.Linear]:
    """The linear layers but the head."""
    head = model.get_output_embeddings()
    return [m for m in model.modules() if isinstance(m, nn.Linear) and m is not head]


def weight_bytes(model: Any, precision: str) -> int:
    """What the weights take, scales included; `model` is a skeleton of type `PRECISIONS[…]`."""
    total = sum(p.nbytes for p in model.parameters())
    for layer in layers(model) if precision == "nf4" else []:
        count = layer.weight.numel()
        total -= layer.weight.nbytes
        total += -(-count // 2) + 4 * -(-count // BLOCK) + 4 * CODES
    return total


def activation_bytes(model: Any, precision: str) -> int:
    """What one answer's pass takes beyond the weights, as `gnuq.score` plans its batches."""
    total = (PROMPT + ANSWER) * bytes_per_token(model) + ANSWER * bytes_per_answer_token(model)
    return total + (max(m.weight.nbytes for m in layers(model)) if precision == "nf4" else 0)


def multiplications(model: Any) -> int:
    """Of a forward pass in the linear layers; the head sees the answer only."""
    head = model.get_output_embeddings().weight.numel() * ANSWER
    return head + sum(m.weight.numel() for m in layers(model)) * (PROMPT + ANSWER)


def random_examples(model: Any, lengths: Sequence[tuple[int, int]]) -> list[Example]:
    """Prompts and answers of these lengths, of random tokens."""
    generator = torch.Generator().manual_seed(0)

    def ids(count: int) -> tuple[int, ...]:
        limit = model.config.vocab_size
        return tuple(torch.randint(limit, (count,), generator=generator).tolist())

    return [Example(ids(prompt), ids(answer)) for prompt, answer in lengths]


def ours(model: Any, batch: passes.Batch) -> Tensor:
    """The squared gradient norms: the pass that `gnuq.score` makes for one batch."""
    found = passes.norms(model, batch, "mean_probability")
    total: Tensor = torch.stack(list(found.by_parameter.values())).sum(0)
    return total * found.log_squared_unit.exp()


def verified(model: Any, examples: Sequence[Example]) -> Tensor:
    """The same, and what `gnuq.score` checks of a batch beside it."""
    rows = Task(model, "mean_probability", float("inf")).judged(examples, [*range(len(examples))])
    norms = [row.in_unit(0.0).values() for _, row in sorted(rows.items())]
    return torch.stack([torch.cat([*each]).sum() for each in norms])


def floor(model: Any, batch: passes.Batch) -> None:
    """The least that a backward pass takes: to the embedded tokens, no weight's gradient.

    Logits of the answer's positions only, as ours.
    """
    model.requires_grad_(False)
    inputs = dict(batch.inputs)
    embedded = model.get_input_embeddings()(inputs.pop("input_ids")).detach().requires_grad_()
    with passes.logits_at(model, batch.before, batch.length):
        logits = model(inputs_embeds=embedded, **inputs).logits
    log_p = passes.token_log_probabilities(logits, batch.tokens)
    torch.autograd.grad(objectives.average(log_p, batch.mask).sum(), embedded)


def seconds(run: Callable[[], object], device: torch.device) -> float:
    """Wall time of one call."""
    _wait(device)
    began = time.perf_counter()
    run()
    _wait(device)
    return time.perf_counter() - began


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def alternating(
    runs: Mapping[str, Callable[[], object]],
    device: torch.device,
    rounds: int,
    few: Mapping[str, int] | None = None,
) -> dict[str, list[float]]:
    """Seconds of each call, all calls once a round, every other round in reverse.

    A machine that slows down for a while then slows down all of them. `few` bounds the rounds of
    calls that take long.
    """
    times: dict[str, list[float]] = {name: [] for name in runs}
    for i in range(rounds):
        for name in list(runs)[:: -1 if i % 2 else 1]:
            if i < (few or {}).get(name, rounds):
                times[name].append(seconds(runs[name], device))
    return times


def warm(model: Any) -> None:
    """Two tokens through the model, so that its weights and libraries are in memory."""
    with torch.no_grad():
        model(**passes.Batch.of(model, [Example((1,), (1,))]).inputs)


def keep_freed(below: int) -> None:
    """Let glibc keep freed blocks below this size, in bytes, and return others to the system.

    By itself it raises the size as it goes, to `AS_USUAL`, which is faster. But then a process
    holds several hundred MB of freed blocks here, and its size says little of what a pass takes.
    """
    with contextlib.suppress(AttributeError, OSError, TypeError):  # another C library
        libc = ctypes.CDLL(None)
        libc.mallopt(MMAP_THRESHOLD, below)
        libc.mallopt(TRIM_THRESHOLD, 2 * below)


def extra_bytes(run: Callable[[], object], device: torch.device) -> float:
    """The most memory that a call takes beyond what is held before it.

    On a CPU this is the resident set's high-water mark, set back first. `ru_maxrss` is the same
    number, but cannot be set back: it would hold what loading took, and a child's starts at its
    parent's. NaN where the system is not Linux.
    """
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        held = torch.cuda.memory_allocated(device)
        run()
        return torch.cuda.max_memory_allocated(device) - held
    try:
        Path("/proc/self/clear_refs").write_text("5")
        held = _resident("VmRSS")
    except OSError:
        return float("nan")
    run()
    return _resident("VmHWM") - held


def _resident(field: str) -> int:
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return 1024 * int(found.group(1))


def one(shape: str, precision: str, device: torch.device, repeats: int) -> dict[str, float]:
    """Build one model in this process and measure it: activations in bytes, seconds, ratio."""
    model = random_model(shape, PRECISIONS[precision], device, nf4=precision == "nf4")
    batch = passes.Batch.of(model, random_examples(model, [(PROMPT, ANSWER)]))
    runs = {"ours": lambda: ours(model, batch), "floor": lambda: floor(model, batch)}
    warm(model)
    activations = extra_bytes(runs["ours"], device)
    keep_freed(AS_USUAL)
    alternating(runs, device, 1)
    times = alternating(runs, device, repeats)
    ratio = statistics.median(a / b for a, b in zip(times["ours"], times["floor"], strict=True))
    taken = statistics.median(times["ours"])
    return {"activations_gib": activations / 2**30, "seconds": taken, "over_floor": ratio}


def one_in_fresh_process(
    shape: str, precision: str, device: torch.device, threads: int, repeats: int
) -> dict[str, float]:
    """`one`, measured where nothing else has run."""
    command = [sys.executable, __file__, "--one", shape, precision, "--device", str(device)]
    command += ["--threads", str(threads), "--repeats", str(repeats)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def memory_gib(device: torch.device) -> float:
    """The memory of a GPU, or of the machine."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[1] / 2**30
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


def expected(shape: str, precision: str) -> dict[str, Any]:
    """One row as the formulas have it, without a time."""
    model = skeleton(shape, PRECISIONS[precision])
    return {
        "shape": shape,
        "parameters": sum(p.numel() for p in model.parameters()),
        "precision": precision,
        "weights_gib": weight_bytes(model, precision) / 2**30,
        "activations_gib": activation_bytes(model, precision) / 2**30,
        "seconds": float("nan"),
        "over_floor": float("nan"),
        "measured": False,
        "multiplications": multiplications(model),
    }


def with_times(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows, with a time where the precision was measured at some shape."""
    rows = rows.copy()
    for _, same in rows.groupby("precision"):
        known = same[same["measured"]].nlargest(1, "multiplications")
        missing = same.index[~same["measured"]]
        if len(known):
            rate = float((known["seconds"] / known["multiplications"]).iloc[0])
            rows.loc[missing, "seconds"] = rate * same.loc[missing, "multiplications"]
    return rows.drop(columns="multiplications")


def measure(
    limit_gib: float | None = None,
    shapes: Sequence[str] = PAPER,
    precisions: Sequence[str] = tuple(PRECISIONS),
    device: str = "cpu",
    threads: int = 2,
    repeats: int = 3,
) -> pd.DataFrame:
    """One row per shape and precision.

    Args:
        limit_gib: GiB that weights and activations may take to be measured; three quarters of
            the device's memory if omitted.
        shapes: names of `SHAPES`.
        precisions: names of `PRECISIONS`.
        device: where to measure.
        threads: on the CPU.
        repeats: rounds of our pass and of the floor, of which the median is taken.
    """
    place = torch.device(device)
    limit = SHARE * memory_gib(place) if limit_gib is None else limit_gib
    rows = []
    for shape, precision in ((s, p) for s in shapes for p in precisions):
        row = expected(shape, precision)
        if row["weights_gib"] + row["activations_gib"] <= limit:
            row |= one_in_fresh_process(shape, precision, place, threads, repeats)
            row["measured"] = True
        print(f"  {shape}, {precision}: {row['seconds']:.3g} s", file=sys.stderr, flush=True)
        rows.append(row)
    return with_times(pd.DataFrame(rows))


def main() -> None:
    """Print the table, or what one fresh process measures."""
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--limit", type=float, help="GiB that a measured model may take")
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=PAPER)
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=list(PRECISIONS))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    o = parser.parse_args()
    torch.set_num_threads(o.threads)
    if o.one:
        keep_freed(NOTHING)
        print(json.dumps(one(*o.one, torch.device(o.device), o.repeats)))
        return
    print(f"torch {torch.__version__}, {o.device}, {o.threads} threads, random weights")
    table = measure(o.limit, o.shapes, o.precisions, o.device, o.threads, o.repeats)
    print(table.to_string(index=False, float_format=lambda v: f"{v:.3g}"))


if __name__ == "__main__":
    main()
