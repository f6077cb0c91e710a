"""The explorer: controls, the map that they choose, and the posterior behind it on demand."""

from __future__ import annotations

import time

import ipywidgets
import numpy as np
import pandas as pd
import plotly.graph_objects as go

from gnuq.display import COLOURS
from gnuq.figures.live import TITLES, live_fit, live_maps
from gnuq.posteriors.settings import HMC
from gnuq.problems import PROBLEMS
from gnuq.protocol import HIDDEN
from gnuq.walkthrough import live, sampling
from gnuq.walkthrough.live import Settings
from gnuq.walkthrough.sampling import Comparison, Sampled
from gnuq.widgets import outputs
from gnuq.widgets.controls import make_controls
from gnuq.widgets.settling import Settling

SAMPLE = "Sample the posterior"
_WRAPPED = {"flex_flow": "row wrap"}


class Explorer:
    """Controls, the map they choose, and a button that samples the posterior behind it.

    Attributes:
        panel: the widget to display.
        controls: the controls, by the field of `Settings` or by `method` and `output`.
        map: the output that holds the figure.
        button: samples the posterior.
        status: what was computed and how long it took, or what went wrong.
        posterior: the output that holds correlations and rank plots.
        frame: the estimates that are shown; None after a failure.
        comparison: the methods against the draws; None unless the present settings were sampled.
    """

    def __init__(self, sampler: HMC = sampling.SAMPLER) -> None:
        self.sampler = sampler
        self.frame: pd.DataFrame | None = None
        self.comparison: Comparison | None = None
        self._sample: Sampled | None = None
        self._settling = Settling()
        self.controls = make_controls(Settings())
        self.map = ipywidgets.Output(layout={"min_height": "480px"})
        self.posterior = ipywidgets.Output()
        self.status = ipywidgets.HTML()
        self.button = ipywidgets.Button(description=SAMPLE, icon="play", layout={"width": "15em"})
        self.button.on_click(self._on_sample)
        for control in self.controls.values():
            control.observe(self._on_change, names="value")
        self.panel = ipywidgets.VBox(
            [
                ipywidgets.Box(list(self.controls.values()), layout=_WRAPPED),
                ipywidgets.Box([self.button, self.status], layout=_WRAPPED),
                self.map,
                self.posterior,
            ]
        )
        self._adapt()
        self._refresh()

    @property
    def settings(self) -> Settings:
        """What the controls say."""
        values = {k: c.value for k, c in self.controls.items() if k not in ("method", "output")}
        values["prior_precision"] = round(values["prior_precision"], 3)  # as its readout shows
        return Settings(**values)

    def _on_change(self, change: dict) -> None:
        if self._settling.active:
            return
        if change["owner"] is self.controls["problem_name"]:
            self._adapt()
        self._refresh()

    def _adapt(self) -> None:
        """Fit the other controls to a new problem: its noise, network, methods and classes."""
        name = self.controls["problem_name"].value
        recipe, method = PROBLEMS[name], self.controls["method"].value
        offered = live.METHODS[recipe.task]
        with self._settling:
            self.controls["noise"].value = recipe.noise
            self.controls["width"].value = next(iter(HIDDEN[name]), 0)
            self.controls["method"].options = [(TITLES[m], m) for m in offered]
            self.controls["method"].value = method if method in offered else offered[0]
            several = recipe.task == "multiclass"
            self.controls["output"].options = list(range(recipe.classes if several else 1))
            self.controls["output"].layout.display = None if several else "none"

    def _refresh(self) -> None:
        """Compute and show what the controls say; show why if that fails."""
        began, settings, output = time.perf_counter(), self.settings, self.controls["output"].value
        self.status.value = outputs.say("Computing …")
        try:
            self.frame = live.estimates(settings, output)
            self._compare(settings, output)
        except (RuntimeError, ValueError) as error:
            self.frame = self.comparison = None
            self.map.outputs = self.posterior.outputs = ()
            self._fail(error)
            return
        outputs.fill(self.map, outputs.plotly(self._figure(settings)))
        self.button.disabled = False
        said = outputs.state(settings, self.frame, time.perf_counter() - began)
        self.status.value = outputs.say(said + self._agreement())

    def _compare(self, settings: Settings, output: int) -> None:
        """Show the evidence of the posterior if these are the settings that were sampled."""
        sample = self._sample
        if sample is None or sample.settings != settings:
            self.comparison, self.posterior.outputs = None, ()
            return
        comparison = sampling.compare(sample, output)
        if comparison is not self.comparison:
            outputs.fill(self.posterior, *outputs.evidence(sample, comparison))
            self.comparison = comparison

    def _figure(self, settings: Settings) -> go.Figure:
        assert self.frame is not None
        method, problem = self.controls["method"].value, settings.problem
        drawn = None if self.comparison is None else self.comparison.frame
        if settings.task == "regression":
            return live_fit(self.frame, problem, method, reference=drawn)
        panels = [(self.frame, method)]
        if drawn is not None:
            panels.insert(0, (drawn, _reference(method)))
        return live_maps(panels, problem)

    def _agreement(self) -> str:
        """How the method shown agrees with the draws."""
        if self.comparison is None:
            return "Not sampled with these settings."
        method, found = self.controls["method"].value, self.comparison.correlations
        row = found[(found["estimate"] == method) & (found["reference"] == _reference(method))]
        r, rho = row[["pearson", "spearman"]].to_numpy()[0]
        if np.isnan(r):
            return "A flat map has no correlation with the sampled posterior."
        return f"With the sampled posterior: Pearson {r:.2f}, Spearman {rho:.2f}."

    def _on_sample(self, _: ipywidgets.Button) -> None:
        chains, steps = self.sampler.chains, self.sampler.tune + self.sampler.draws
        self.button.disabled, self.button.description = True, "Sampling …"
        self.status.value = outputs.say(
            f"Sampling {chains} chains of {steps} steps: about ten seconds, the first time more."
        )
        try:
            self._sample = sampling.sampled(self.settings, self.sampler)
        except (RuntimeError, ValueError) as error:
            self._fail(error)
        else:
            self._refresh()
        finally:
            self.button.disabled, self.button.description = self.frame is None, SAMPLE

    def _fail(self, error: Exception) -> None:
        self.status.value = outputs.say(str(error), shade=COLOURS["aleatoric"])
        self.button.disabled = self.frame is None


def _reference(method: str) -> str:
    """What a method stands for: p(1 − p) for the aleatoric part, all else for the variance."""
    return "hmc_aleatoric" if method == "bernoulli" else "hmc_epistemic"
