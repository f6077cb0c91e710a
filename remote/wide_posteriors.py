"""Sample the widest posteriors on a machine with a GPU, in parts of a few minutes.

    python remote/wide_posteriors.py prepare FOLDER   # here: data, grid and point estimate
    python remote/wide_posteriors.py run FOLDER       # there, again and again until it says done

What runs there needs this repository, JAX and NumPy (SciPy comes with JAX), and nothing else. Each
call takes at most `--minutes`, and goes on where the last one stopped. All chains are advanced as
one batch, in float32 throughout. When a posterior is finished its folder holds `summary.npz`, what
`gnuq.posteriors.summary` says of it, and `report.json`: r̂, nested r̂ and the sampler's report.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import types
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
try:
    import jaxtyping  # noqa: F401
except ModuleNotFoundError:  # annotations alone use it, and they are not evaluated
    sys.modules["jaxtyping"] = types.ModuleType("jaxtyping")
    for name in ("Bool", "Float", "Int"):
        setattr(sys.modules["jaxtyping"], name, Any)

import jax

from gnuq.posteriors import streamed, whitened
from gnuq.posteriors.blocks import log_odds
from gnuq.posteriors.rank_convergence import nested_r_hat
from gnuq.posteriors.settings import StreamedHMC
from gnuq.posteriors.summary import summarised

#: In the order of their worth: name of the record → width, prior, data seed.
OPEN = {
    f"curve/base/{prior}/width-{width}/seed-{seed}": (width, prior, seed)
    for width, prior, seed in (
        *((512, "unit-1", 0), (1028, "unit-1", 0), (1028, "fan-in", 0), (512, "fan-in", 0)),
        *((256, "unit-1", 0), (1028, "fan-in", 1), (1028, "fan-in", 2), (512, "fan-in", 1)),
        *((512, "fan-in", 2), (256, "unit-1", 1), (256, "unit-1", 2)),
    )
}
#: Groups of chains for nested r̂, and draws made in one go.
GROUPS, BATCH = 8, 10


class TimeIsUpError(Exception):
    """The part has taken its minutes; what it did is saved."""


class Folder:
    """A folder that keeps the sampler's state, and ends the part once its time has passed."""

    def __init__(self, path: Path, until: float) -> None:
        self.path, self.until = path, until

    def save(self, key: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Replace a state, whole or not at all.

        Raises:
            TimeIsUpError: after it was saved.
        """
        part = self.path / f"{key}.part.npz"
        np.savez(part, **arrays)  # type: ignore[arg-type]
        os.replace(part, self.path / f"{key}.npz")
        if time.monotonic() > self.until:
            raise TimeIsUpError

    def load(self, key: str) -> dict[str, np.ndarray] | None:
        """A state, or None."""
        path = self.path / f"{key}.npz"
        if not path.exists():
            return None
        with np.load(path) as kept:
            return dict(kept)


def prepare(folder: Path, names: Mapping[str, tuple[int, str, int]]) -> None:
    """Write what each posterior needs: inputs, targets, points, point estimate, network, prior."""
    from torch import nn

    from gnuq.curve import Run
    from gnuq.posteriors.training import point_estimate

    for name, (width, prior_name, seed) in names.items():
        run, place = Run(width, prior_name, seed), folder / name
        place.mkdir(parents=True, exist_ok=True)
        problem, prior = run.problem, run.prior
        network, kind = point_estimate(run.architecture, problem, prior)
        np.savez(
            place / "problem.npz",
            inputs=problem.inputs.numpy(),
            targets=problem.targets.numpy(),
            points=run.grid.points.numpy(),
            mode=nn.utils.parameters_to_vector(network.parameters()).numpy(),
        )
        told = {
            "layers": run.architecture.layers,
            "precision": prior.precision,
            "scaling": prior.scaling,
            "activation": run.architecture.activation,
            "point_estimate": kind,
        }
        (place / "network.json").write_text(json.dumps(told))
        print(f"{name}: prepared", flush=True)


def sampled(place: Path, settings: StreamedHMC, until: float) -> None:
    """One posterior, from where its folder says that it stands, to its summary.

    Raises:
        TimeIsUpError: it is not finished.
    """
    told = json.loads((place / "network.json").read_text())
    prior = types.SimpleNamespace(precision=told["precision"], scaling=told["scaling"])
    layers = [(int(fan_in), int(fan_out)) for fan_in, fan_out in told["layers"]]
    network = whitened.network_of(layers, prior, told["activation"])
    with np.load(place / "problem.npz") as kept:
        given = dict(kept)
    target = whitened.posterior(network, **given)
    compiled = streamed.sampler(target, settings)
    blocks, size = streamed.sample(compiled, batch=BATCH, store=Folder(place, until))
    summary = summarised(blocks, network, given["mode"], given["points"])
    odds = log_odds(blocks)
    nested = [
        nested_r_hat(1 / (1 + np.exp(-odds[..., k].astype(np.float64))), GROUPS).max()
        for k in range(odds.shape[-1])
    ]
    report = {
        **summary.report,
        "nested_r_hat_max": round(float(max(nested)), 5),
        **streamed.report(blocks, size),
        "settings": asdict(settings),
        "device": jax.devices()[0].device_kind,
    }
    np.savez_compressed(place / "summary.npz", **summary.columns)  # type: ignore[arg-type]
    (place / "report.json").write_text(json.dumps(report, indent=1))
    for key in ("step-size", *(f"block-{n}" for n in range(len(blocks)))):
        (place / f"{key}.npz").unlink()


def run(folder: Path, names: Mapping[str, Any], settings: StreamedHMC, minutes: float) -> int:
    """Sample what is prepared and not finished, until the minutes are over; 1 if some is left."""
    jax.config.update("jax_default_matmul_precision", "highest")  # no 10-bit products on a GPU
    until = time.monotonic() + 60 * minutes
    for name in names:
        place = folder / name
        if (place / "summary.npz").exists() or not (place / "network.json").exists():
            continue
        try:
            sampled(place, settings, until)
        except TimeIsUpError:
            print(f"{name}: not finished; call again", flush=True)
            return 1
        print(f"{name}: {(place / 'report.json').read_text()}", flush=True)
        if time.monotonic() > until:
            return 1
    print("done")
    return 0


def main() -> int:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("what", choices=("prepare", "run"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", choices=OPEN, action="append", help="a posterior; all if omitted")
    parser.add_argument("--minutes", type=float, default=7.0)
    parser.add_argument("--chains", type=int, default=64)
    parser.add_argument("--draws", type=int, default=50)
    told = parser.parse_args()
    names = {name: OPEN[name] for name in told.only or OPEN}
    if told.what == "prepare":
        prepare(told.folder, names)
        return 0
    settings = StreamedHMC(chains=told.chains, together=told.chains, draws=told.draws)
    return run(told.folder, names, settings, told.minutes)


if __name__ == "__main__":
    sys.exit(main())
