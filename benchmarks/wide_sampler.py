"""Effective samples of the predictions a second: the sampler of wide networks, new against old.

    python benchmarks/wide_sampler.py --widths 64 256 --prior fan-in

Both sample one posterior of the scaling study, in turn and in one process, from draws of the prior.
The number that is compared is the smallest bulk effective sample size over the grid and classes,
divided by the time of the draws; compilation, tuning and burn-in are left out of it and shown.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np
import pandas as pd

from gnuq.posteriors import streamed, streaming
from gnuq.posteriors.blocks import Block, log_odds
from gnuq.posteriors.rank_convergence import convergence
from gnuq.posteriors.settings import HMC, StreamedHMC
from gnuq.scaling import Run

CHAINS, TUNE, DRAWS = 2, 100, 100


def of_new(run: Run) -> dict[str, float]:
    """`gnuq.posteriors.streamed`."""
    settings, began = StreamedHMC(chains=CHAINS, tune=TUNE, draws=DRAWS), time.perf_counter()
    compiled = streamed.of_network(*_posterior(run), settings)
    size, blocks, spent = compiled.tuned(), [], 0.0
    for chains in compiled.blocks():
        block = Block(np.asarray(compiled.start(chains)))
        while block.done < streamed.STAGED + settings.burn_in:
            compiled.advance(block, chains, size, DRAWS)
        compiled.draw(block.positions, chains, np.arange(DRAWS), size)  # compiles
        before = block.seconds
        compiled.advance(block, chains, size, DRAWS)
        spent += block.seconds - before
        blocks.append(block)
    steps = float(np.mean([np.concatenate(block.steps) for block in blocks]))
    return _row("new", log_odds(blocks), spent, time.perf_counter() - began, steps)


def of_old(run: Run) -> dict[str, float]:
    """`gnuq.posteriors.streaming`, its chains one after the other."""
    settings, began = HMC(chains=CHAINS, tune=TUNE, draws=DRAWS), time.perf_counter()
    compiled, chains, spent = streaming.sampler(*_posterior(run), settings), [], 0.0
    for number in range(CHAINS):
        chain = compiled.start(number)
        compiled.advance(chain, number, TUNE)
        if not number:  # compiles
            compiled.advance(compiled.start(0), 0, TUNE)
            warm = compiled.start(0)
            warm.adaptation, warm.done = chain.adaptation, TUNE
            compiled.advance(warm, 0, DRAWS)
        before = chain.seconds
        compiled.advance(chain, number, DRAWS)
        spent += chain.seconds - before
        chains.append(chain)
    odds = np.stack([np.concatenate(chain.log_odds) for chain in chains])
    steps = float(np.mean([np.concatenate(chain.steps) for chain in chains]))
    return _row("old", odds, spent, time.perf_counter() - began, steps)


def _posterior(run: Run) -> tuple[Any, ...]:
    mode = np.zeros(run.architecture.parameters)
    return run.architecture, run.problem, run.prior, mode, run.grid.points


def _row(name: str, odds: np.ndarray, seconds: float, whole: float, steps: float) -> dict[str, Any]:
    effective = convergence(odds)[1]
    return {
        "sampler": name,
        "steps a draw": steps,
        "ms a step": 1e3 * seconds / (steps * CHAINS * DRAWS),
        "smallest ESS": float(effective.min()),
        "median ESS": float(np.median(effective)),
        "seconds of draws": seconds,
        "seconds in all": whole,
        "smallest ESS a second": float(effective.min()) / seconds,
        "median ESS a second": float(np.median(effective)) / seconds,
    }


def main() -> None:
    """Print one row per width and sampler."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--widths", type=int, nargs="+", default=[64, 256])
    parser.add_argument("--prior", default="fan-in")
    told = parser.parse_args()
    for width in told.widths:
        run = Run(width, told.prior)
        table = pd.DataFrame([of_old(run), of_new(run)]).set_index("sampler").T
        print(f"width {width}, prior {told.prior}")
        print(table.assign(ratio=table["new"] / table["old"]).to_string(float_format="%.4g"))


if __name__ == "__main__":
    main()
