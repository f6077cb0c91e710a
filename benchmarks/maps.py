"""Squared gradient norms of all four classes on a 100 × 100 grid: ours against the peers.

    pip install -e '.[oracle]'
    python benchmarks/maps.py

Times are medians of repeated runs in one process, on the threads that torch chooses; peak memory
is the largest resident set of a fresh process for each method, less that of one that only builds
the network and the grid. Read the ratios, not the seconds. The plain loop and the widest
`vmap(grad)` run on part of the grid and are scaled up; the table says so. Every method is run at
several batch sizes (the number after its name), and the fastest is shown.
"""

from __future__ import annotations

import argparse
import copy
import re
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor, nn

from gnuq.gradnorm import squared_gradient_norms
from gnuq.networks import Architecture

WIDTHS = (32, 256, 1028)
CLASSES = 4
CHUNKS = (16, 64, 256, 1024)
BATCHES = (500, 2_500, 10_000)


def setting(width: int, points: int) -> tuple[nn.Module, Tensor]:
    """The network of Table 10 with two hidden layers, in float32, and a grid."""
    network = Architecture(2, (width, width), CLASSES).build().float().eval()
    side = torch.linspace(-3, 3, round(points**0.5))
    return network, torch.cartesian_prod(side, side)


def ours(network: nn.Module, grid: Tensor, chunk: int, *, verify: bool = False) -> Tensor:
    """All classes, one forward pass and one backward pass per class."""
    return squared_gradient_norms(
        network, grid, lambda f: f.softmax(1), batch_size=chunk, verify=verify
    ).total


def backpack(network: nn.Module, grid: Tensor, chunk: int) -> Tensor:
    """BackPACK's batch_l2_grad, one extended backward pass per class."""
    from backpack import extend

    extended = extend(copy.deepcopy(network))  # extend leaves its hooks behind
    return torch.cat([_backpack(extended, part) for part in grid.split(chunk)])


def _backpack(network: nn.Module, grid: Tensor) -> Tensor:
    from backpack import backpack
    from backpack.extensions import BatchL2Grad

    p = network(grid).softmax(1)
    columns = []
    for k in range(CLASSES):
        with backpack(BatchL2Grad(), retain_graph=True):
            p[:, k].sum().backward(retain_graph=True)
        columns.append(sum(w.batch_l2 for w in network.parameters()))
    for weight in network.parameters():
        weight.grad = None
    return torch.stack(columns, 1).detach()


def vmap_grad(network: nn.Module, grid: Tensor, chunk: int) -> Tensor:
    """torch.func: per-example gradients of every class, `chunk` examples at a time."""
    weights = {name: p.detach() for name, p in network.named_parameters()}

    def probabilities(weights: dict[str, Tensor], x: Tensor) -> Tensor:
        return torch.func.functional_call(network, weights, x[None])[0].softmax(0)

    def norms(x: Tensor) -> Tensor:
        jacobian = torch.func.jacrev(probabilities)(weights, x)
        return sum(j.flatten(1).square().sum(1) for j in jacobian.values())

    return torch.func.vmap(norms, chunk_size=chunk)(grid)


def loop(network: nn.Module, grid: Tensor) -> Tensor:
    """One backward pass per example and class."""
    rows = []
    for x in grid:
        p = network(x[None]).softmax(1)[0]
        gradients = [
            torch.autograd.grad(p[k], list(network.parameters()), retain_graph=True)
            for k in range(CLASSES)
        ]
        rows.append(torch.stack([sum(g.square().sum() for g in one) for one in gradients]))
    return torch.stack(rows)


def median_seconds(run: Callable[[], object], repeats: int) -> float:
    """Median wall time after one warm-up."""
    run()
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def methods(width: int) -> dict[str, tuple[Callable[[nn.Module, Tensor], Tensor], int, int]]:
    """Name → (function, grid points to run, repeats); fewer points where a run takes minutes."""
    part = {32: 10_000, 256: 2_500, 1028: 400}[width]
    few = {32: 400, 256: 225, 1028: 100}[width]
    found: dict = {}
    for chunk in BATCHES:
        found[f"ours, {chunk}"] = (partial(ours, chunk=chunk), 10_000, 7)
    for chunk in BATCHES:
        found[f"ours with verify, {chunk}"] = (partial(ours, chunk=chunk, verify=True), 10_000, 7)
    for chunk in BATCHES:
        found[f"BackPACK, {chunk}"] = (partial(backpack, chunk=chunk), 10_000, 5)
    for chunk in CHUNKS:
        if chunk <= part and not (width == 1028 and chunk > 64):  # 256 gradients: 4 GB a class
            found[f"vmap(grad), {chunk}"] = (partial(vmap_grad, chunk=chunk), part, 1)
    found["loop, 1"] = (loop, few, 1)
    return found


def peak(width: int, method: str) -> int:
    """Peak resident set of this process after running one method (or none) once, in KiB.

    Read from /proc: `ru_maxrss` of a child starts at its parent's.
    """
    network, grid = setting(width, 10_000)
    if method != "nothing":
        run, points, _ = methods(width)[method]
        run(network, grid[:points])
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+)", status).group(1))  # type: ignore[union-attr]


def peak_in_fresh_process(width: int, method: str) -> int:
    """`peak`, measured where nothing else has run."""
    command = [sys.executable, __file__, "--peak", method, "--width", str(width)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def compare(width: int) -> pd.DataFrame:
    """Each method at its best batch size: time per 10 000 points and memory, as ratios to ours."""
    network, grid = setting(width, 10_000)
    truth = loop(network.double(), grid[:20].double())
    network = network.float()
    base = peak_in_fresh_process(width, "nothing")
    rows = []
    for name, (run, points, repeats) in methods(width).items():
        error = (run(network, grid[:points])[:20].double() / truth - 1).abs().max()
        seconds = median_seconds(lambda r=run, n=points: r(network, grid[:n]), repeats)
        rows.append(
            {
                "width": width,
                "method": name,
                "points run": points,
                "seconds per 10 000": seconds * 10_000 / points,
                "MiB": (peak_in_fresh_process(width, name) - base) / 1024,
                "largest relative error": float(error),
            }
        )
        print(f"  {name}: {rows[-1]['seconds per 10 000']:.3f} s", file=sys.stderr, flush=True)
    table = pd.DataFrame(rows)
    family = table["method"].str.rpartition(", ")[0]
    best = table.loc[table.groupby(family)["seconds per 10 000"].idxmin()].sort_index()
    ours_row = best.iloc[0]
    best["time / ours"] = best["seconds per 10 000"] / ours_row["seconds per 10 000"]
    best["memory / ours"] = best["MiB"] / ours_row["MiB"]
    return best


def main() -> None:
    """Print the table, or one process's peak memory."""
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peak", help="measure one method's peak memory in this process")
    parser.add_argument("--width", type=int, choices=WIDTHS)
    options = parser.parse_args()
    if options.peak:
        print(peak(options.width, options.peak))
        return
    widths = [options.width] if options.width else WIDTHS
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    table = pd.concat([compare(width) for width in widths])
    print(table.to_string(index=False, float_format=lambda v: f"{v:.3g}"))


if __name__ == "__main__":
    main()
