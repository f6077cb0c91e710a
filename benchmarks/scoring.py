"""Eight answers' squared gradient norms: ours against the peers, and against drawing samples.

    pip install --no-deps opacus                           # for Opacus' row
    python benchmarks/scoring.py                           # SmolLM2-135M on two threads
    python benchmarks/scoring.py --device cuda --dtype float16 --shape olmo-1b
    python benchmarks/scoring.py --device cuda --quantisation nf4 --shape llama-2-7b

Questions are TruthfulQA's first, if `GNUQ_DATA` names the folder that has them, with the model's
own greedy answers; else our own eight pairs; the output says which. With --shape the weights and
the tokens are random, which serves for time and memory only. The rows:

    ours      the pass that gnuq.score makes for a batch; what that call does once beside it (a
              digest of the weights) does not count
    verified  the same with what it checks of every batch: the shortest answer alone, by plain
              autograd, weight by weight
    floor     a forward and a backward pass to the embedded tokens, no weight's gradient
    summed    one backward() of the batch's sum, as anyone would write it: logits everywhere, all
              .grad fields filled; gives no norm
    loop      one backward() for each answer, unpadded
    vmap      vmap(grad) of torch.func, two answers at a time on a CPU (four or eight are slower).
              It refuses the padding mask, which right padding under causal attention does not
              need; with it, attention would have to be "eager"
    opacus    Opacus' ghost clipping up to its norms, on an untied copy, since it refuses tied
              weights. All weights count: linear layers and the embedding have its norm samplers;
              the RMS norms, a class of transformers' own, go through its per-example gradients.
              Its backward() fills .grad too
    samples   ten sampled answers for each question, as long as its answer (or shorter, if all ten
              end before): what entropy needs before it starts. gnuq's generate reads once what
              the prompts share, and lets rows leave that have ended
    together  the same, all eighty in one batch

Norms must agree with the loop's to 1e-4 (Opacus' with those of a loop on its copy), or there is no
table; in half precision, where a plain loop underflows, they are not compared. On NF4 weights
.grad holds nothing, and bitsandbytes has no rule for vmap: loop, vmap and Opacus are left out, and
`summed` fills what it can. Times are medians of ratios within a round; each round runs all methods
once. Memory is what a call takes beyond the weights: on a CPU the growth of a fresh process's
resident set, `memory` with an allocator that returns what is freed, `resident` with glibc as it
is, which keeps some of it (see `sizes.keep_freed`); on a GPU what torch allocates. Read the
ratios, which is all that there is.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import subprocess
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from gnuq.language_models import generate, load
from gnuq.qa import datasets
from gnuq.scoring import Encoder, Example
from gnuq.scoring.passes import Batch
from gnuq.scoring.questions import few_shot

sys.path.append(str(Path(__file__).parent))  # a package `benchmarks` would be shadowed by Opacus'
import sizes

BATCH, SAMPLES = 8, 10
#: Answers at a time in vmap(grad).
CHUNKS = {"cpu": 2, "cuda": 8}
#: Rounds, and of what takes long.
ROUNDS, FEW = 7, {"loop": 3, "vmap": 3, "opacus": 3, "samples": 2, "together": 2}
#: How far norms may be off, relatively, in float32.
TOLERANCE = 1e-4
#: Lengths of prompts and answers of random tokens.
LENGTHS = [(128 - 2 * i, 16 - i) for i in range(BATCH)]
#: Our own questions and answers, right or wrong.
PAIRS = (
    ("What is the capital of Norway?", "Oslo"),
    ("How many strings does a violin have?", "It has four strings"),
    ("Can fish drown?", "Yes, if the water holds too little oxygen"),
    ("Who painted the Sistine Chapel's ceiling?", "Leonardo da Vinci"),
    ("What do bees make honey from?", "From the nectar of flowers"),
    ("Is the Sahara the largest desert?", "No, Antarctica is the largest desert of all"),
    ("What is the boiling point of nitrogen?", "About minus 196 degrees Celsius"),
    ("Why is the sky dark at night?", "Because the Sun is on the other side of the Earth"),
)

Run = Callable[[], Tensor | None]


@dataclass(frozen=True)
class Source:
    """Which model; a shape of `sizes.SHAPES` has random weights, none is the default model."""

    device: str = "cpu"
    dtype: str | None = None
    quantisation: str | None = None
    shape: str | None = None

    @property
    def place(self) -> torch.device:
        """The device."""
        return torch.device(self.device)

    def load(self) -> tuple[Any, Any]:
        """The model, and its tokenizer or what stands for it."""
        if self.shape is None:
            settings = {"dtype": self.dtype, "quantisation": self.quantisation}
            loaded = load(device=self.device, **settings)
            return loaded.model, loaded.tokenizer
        dtype = getattr(torch, self.dtype or "float32")
        nf4 = self.quantisation == "nf4"
        silent = SimpleNamespace(eos_token_id=None, pad_token_id=0, decode=lambda *_, **__: "")
        return sizes.random_model(self.shape, dtype, self.place, nf4=nf4), silent


@dataclass(frozen=True)
class Setting:
    """What every method gets."""

    model: Any
    tokenizer: Any
    examples: list[Example]

    @cached_property
    def batch(self) -> Batch:
        """All examples, padded."""
        return Batch.of(self.model, self.examples)


def questions(source: Source, model: Any, tokenizer: Any) -> tuple[list[Example], str]:
    """Eight prompts with answers, and what they are."""
    if source.shape is not None:
        return sizes.random_examples(model, LENGTHS), "random tokens, random weights"
    encoder = Encoder(tokenizer)
    if not datasets.available("truthfulqa"):
        found = [encoder.encode(few_shot(question), f" {answer}") for question, answer in PAIRS]
        return found, "our own questions and answers"
    asked = datasets.truthfulqa()["question"][: 2 * BATCH]  # some answers may be empty
    prompts = [encoder.prompt(few_shot(question)) for question in asked]
    answers = generate(model, tokenizer, prompts)
    found = [Example(p, a.ids) for p, a in zip(prompts, answers, strict=True) if a.ids]
    return found[:BATCH], "TruthfulQA's questions, the model's greedy answers"


def objective(logits: Tensor, ids: Tensor, before: Tensor, mask: Tensor) -> Tensor:
    """p̄ of each answer, Eq. (9), from the logits of every position."""
    log_p = logits[:, :-1].float().log_softmax(-1).gather(2, ids[:, 1:, None])[..., 0]
    return (log_p.gather(1, before).exp() * mask).sum(1) / mask.sum(1)


def plain(model: Any, batch: Batch) -> Tensor:
    """p̄ of each answer, as anyone would compute it."""
    logits = model(**batch.inputs).logits
    return objective(logits, batch.inputs["input_ids"], batch.before, batch.mask)


def ours(setting: Setting) -> Run:
    """One forward and one backward pass."""
    return partial(sizes.ours, setting.model, setting.batch)


def verified(setting: Setting) -> Run:
    """The pass, and its verification."""
    return partial(sizes.verified, setting.model, setting.examples)


def floor(setting: Setting) -> Run:
    """The same without norms."""
    return partial(sizes.floor, setting.model, setting.batch)


def _wanted(model: nn.Module) -> list[nn.Parameter]:
    """The weights that can have a .grad; all of them will."""
    able = [p for p in model.parameters() if p.is_floating_point()]
    for weight in able:
        weight.requires_grad_(True)
    return able


def summed(setting: Setting) -> Run:
    """One backward() for the whole batch."""

    def run() -> None:
        _wanted(setting.model)
        plain(setting.model, setting.batch).sum().backward()
        setting.model.zero_grad()

    return run


def loop(setting: Setting) -> Run:
    """One backward() for each example."""
    return lambda: torch.stack([_alone(setting.model, one) for one in setting.examples])


def _alone(model: Any, example: Example) -> Tensor:
    weights = _wanted(model)
    plain(model, Batch.of(model, [example])).sum().backward()
    norm = torch.stack([w.grad.float().square().sum() for w in weights]).sum()
    model.zero_grad()
    return norm


def vmap_grad(setting: Setting) -> Run:
    """torch.func: gradients of several examples at a time."""
    model, batch = setting.model, setting.batch
    weights = {name: p.detach() for name, p in model.named_parameters()}

    def value(weights: dict[str, Tensor], *one: Tensor) -> Tensor:
        ids, before, mask = (x[None] for x in one)
        inputs = {"input_ids": ids, "use_cache": False}
        logits = torch.func.functional_call(model, weights, (), inputs).logits
        return objective(logits, ids, before, mask)[0]

    def norm(*one: Tensor) -> Tensor:
        gradients = torch.func.grad(value)(weights, *one)
        return torch.stack([g.float().square().sum() for g in gradients.values()]).sum()

    norms = torch.func.vmap(norm, chunk_size=CHUNKS[batch.tokens.device.type])
    return lambda: norms(batch.inputs["input_ids"], batch.before, batch.mask)


def untied(model: Any) -> Any:
    """A copy whose head has weights of its own."""
    twin = copy.deepcopy(model)
    twin.config.tie_word_embeddings = False
    head = twin.get_output_embeddings()
    head.weight = nn.Parameter(head.weight.detach().clone())
    return twin


def opacus(setting: Setting) -> Run:
    """Ghost clipping, as far as the norms."""
    from opacus.grad_sample import GradSampleModuleFastGradientClipping

    twin = untied(setting.model).train()  # it records nothing in evaluation mode
    _wanted(twin)
    hooked = GradSampleModuleFastGradientClipping(twin, loss_reduction="sum")

    def run() -> Tensor:
        plain(hooked, setting.batch).sum().backward()
        norms = hooked.get_norm_sample().square()
        hooked.zero_grad(set_to_none=True)
        return norms

    return run


def samples(setting: Setting) -> Run:
    """Ten answers for one question after the other."""

    def run() -> None:
        for example in setting.examples:
            _drawn(setting, [example])

    return run


def together(setting: Setting) -> Run:
    """Ten answers for all questions at once."""
    return lambda: _drawn(setting, setting.examples)


def _drawn(setting: Setting, examples: Sequence[Example]) -> None:
    generate(
        setting.model,
        setting.tokenizer,
        [example.prompt for example in examples],
        max_new_tokens=max(len(example.answer) for example in examples),
        temperature=1.0,
        samples=SAMPLES,
        batch_size=SAMPLES * len(examples),
        seed=0,
        stop=None,
    )


METHODS: dict[str, Callable[[Setting], Run]] = {
    "ours": ours,
    "verified": verified,
    "floor": floor,
    "summed": summed,
    "loop": loop,
    "vmap": vmap_grad,
    "opacus": opacus,
    "samples": samples,
    "together": together,
}
#: Those that count weights by their .grad, which quantised weights have not.
BY_GRAD = ("loop", "vmap", "opacus")
#: What the table is about, and what its ratios are to.
NEEDED = ("ours", "floor", "summed")


def ready(
    setting: Setting, methods: Sequence[str], quantised: bool
) -> tuple[dict[str, Run], dict[str, Tensor]]:
    """The methods that work here, each run once, and the norms that they gave."""
    runs: dict[str, Run] = {}
    norms: dict[str, Tensor] = {}
    for name in (m for m in METHODS if m in {*methods, *NEEDED}):
        try:
            if quantised and name in BY_GRAD:
                raise NotImplementedError("it has no gradient of quantised weights")
            run = METHODS[name](setting)
            found = run()
        except (ImportError, RuntimeError) as error:  # too little memory, too, is a RuntimeError
            if name in NEEDED:
                raise
            setting.model.zero_grad()
            reason = str(error).partition("\n")[0]
            print(f"  {name} is left out: {reason}", file=sys.stderr, flush=True)
            continue
        runs[name] = run
        if found is not None:
            norms[name] = found.double().cpu()
    return runs, norms


def errors(setting: Setting, norms: dict[str, Tensor]) -> dict[str, float]:
    """The largest relative error of each method's norms, against a loop.

    Raises:
        ArithmeticError: one is off by more than the tolerance.
    """
    truth = norms["loop"] if "loop" in norms else loop(setting)().double().cpu()
    found = {}
    for name, given in norms.items():
        if name == "opacus":
            twin = Setting(untied(setting.model), setting.tokenizer, setting.examples)
            expected = loop(twin)().double().cpu()
        else:
            expected = truth
        found[name] = float((given / expected - 1).abs().max())
        if not found[name] <= TOLERANCE:
            raise ArithmeticError(f"{name}: its norms are off by {found[name]:.2g}.")
    return found


def peak(source: Source, method: str, examples: list[Example]) -> float:
    """Bytes that a method takes beyond the weights, in this process."""
    setting = Setting(*source.load(), examples)
    run = METHODS[method](setting)
    sizes.warm(setting.model)
    return sizes.extra_bytes(run, source.place)


def peak_in_fresh_process(
    source: Source, method: str, examples: list[Example], threads: int, *, usual: bool
) -> float:
    """`peak`, measured where nothing else has run.

    Args:
        source: which model.
        method: a name of `METHODS`.
        examples: the batch.
        threads: as `measure`.
        usual: leave it to glibc to keep what is freed.
    """
    told = {
        "source": asdict(source),
        "examples": [(e.prompt, e.answer) for e in examples],
        "usual": usual,
    }
    command = [sys.executable, __file__, "--peak", method, "--threads", str(threads)]
    done = subprocess.run(
        command, input=json.dumps(told), stdout=subprocess.PIPE, text=True, check=True
    )
    return float(done.stdout.splitlines()[-1])


def _peak_as_told(method: str) -> float:
    """`peak` of what comes from standard input."""
    told = json.load(sys.stdin)
    examples = [Example(tuple(prompt), tuple(answer)) for prompt, answer in told["examples"]]
    if not told["usual"]:
        sizes.keep_freed(sizes.NOTHING)
    return peak(Source(**told["source"]), method, examples)


def memory(
    source: Source, setting: Setting, runs: dict[str, Run], threads: int
) -> dict[str, dict[str, float]]:
    """Bytes of "memory" and "resident", by method."""
    if source.place.type == "cuda":
        return {
            "memory": {name: sizes.extra_bytes(run, source.place) for name, run in runs.items()}
        }
    return {
        kind: {
            name: peak_in_fresh_process(
                source, name, setting.examples, threads, usual=kind == "resident"
            )
            for name in runs
        }
        for kind in ("memory", "resident")
    }


def table(
    times: dict[str, list[float]],
    taken: dict[str, dict[str, float]],
    off: dict[str, float],
) -> pd.DataFrame:
    """One row per method, all but the errors as ratios."""

    def against(name: str, base: str) -> float:
        return statistics.median(a / b for a, b in zip(times[name], times[base], strict=False))

    rows = [
        {
            "method": name,
            "time_over_floor": against(name, "floor"),
            "time_over_summed": against(name, "summed"),
            **{f"{kind}_over_summed": m[name] / m["summed"] for kind, m in taken.items()},
            "largest_relative_error": off.get(name, float("nan")),
        }
        for name in times
    ]
    return pd.DataFrame(rows)


def measure(
    device: str = "cpu",
    threads: int = 2,
    dtype: str | None = None,
    quantisation: str | None = None,
    methods: Sequence[str] = tuple(METHODS),
    shape: str | None = None,
    rounds: int = ROUNDS,
) -> pd.DataFrame:
    """One row per method.

    Args:
        device: "cpu" or "cuda".
        threads: on the CPU.
        dtype: "float32", "bfloat16" or "float16"; the model's own if omitted.
        quantisation: None or "nf4".
        methods: names of `METHODS`; `NEEDED` ones are always run.
        shape: a name of `sizes.SHAPES`, for random weights.
        rounds: repetitions, fewer of what takes long.
    """
    torch.set_num_threads(threads)
    source = Source(device, dtype, quantisation, shape)
    model, tokenizer = source.load()
    examples, told = questions(source, model, tokenizer)
    print(f"  {told}", file=sys.stderr, flush=True)
    setting = Setting(model, tokenizer, examples)
    runs, norms = ready(setting, methods, quantisation is not None)
    whole = quantisation is None and model.dtype == torch.float32
    off = errors(setting, norms) if whole else {}
    times = sizes.alternating(runs, source.place, rounds, FEW)
    taken = memory(source, setting, runs, threads)
    mib = taken["memory"]["summed"] / 2**20
    told = f"floor: {statistics.median(times['floor']):.3g} s; summed: {mib:.0f} MiB"
    print(f"  {told}", file=sys.stderr, flush=True)
    return table(times, taken, off)


def main() -> None:
    """Print the table, or one process's peak memory."""
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--dtype", choices=("float32", "bfloat16", "float16"))
    parser.add_argument("--quantisation", choices=("nf4",))
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--shape", choices=sizes.SHAPES, help="random weights")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    o = vars(parser.parse_args())
    torch.set_num_threads(o["threads"])
    if method := o.pop("peak"):
        print(_peak_as_told(method))
        return
    print(f"torch {torch.__version__}, {o['device']}, {o['threads']} threads")
    print(measure(**o).to_string(index=False, float_format=lambda v: f"{v:.3g}"))


if __name__ == "__main__":
    main()
