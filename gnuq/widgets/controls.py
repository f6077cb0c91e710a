"""The explorer's controls: one for each field of its settings, one for the method, the class."""

from __future__ import annotations

from typing import Any

import ipywidgets

from gnuq.figures.live import TITLES
from gnuq.problems import PROBLEMS
from gnuq.walkthrough import live
from gnuq.walkthrough.live import Settings


def make_controls(start: Settings) -> dict[str, Any]:
    """The controls, by field of `Settings`; sliders report when they are let go."""
    named = {f"{name} ({recipe.task})": name for name, recipe in PROBLEMS.items()}
    widths = [("0 (linear model)", 0), *((str(w), w) for w in live.WIDTHS[1:])]
    scalings = [("unit: N(0, 1/λ)", "unit"), ("fan-in: N(0, 1/(λ·fan-in))", "fan_in")]
    made: dict[str, Any] = {
        "problem_name": ipywidgets.Dropdown(options=named, description="Problem"),
        "method": ipywidgets.Dropdown(
            options=[(TITLES[m], m) for m in live.METHODS[start.task]], description="Method"
        ),
        "output": ipywidgets.Dropdown(options=[0], description="Class shown"),
        "prior_precision": ipywidgets.FloatLogSlider(
            min=-1.3, max=1.3, step=0.1, readout_format=".3g", description="Prior precision λ"
        ),
        "prior_scaling": ipywidgets.Dropdown(options=scalings, description="Prior scaling"),
        "width": ipywidgets.Dropdown(options=widths, description="Hidden width"),
        "noise": ipywidgets.FloatSlider(min=0.05, max=1.0, step=0.01, description="Noise"),
        "points": ipywidgets.IntSlider(
            min=20, max=live.MOST_POINTS, step=20, description="Training points"
        ),
        "data_seed": ipywidgets.BoundedIntText(max=9999, description="Data seed"),
        "start": ipywidgets.BoundedIntText(max=9999, description="Training start"),
    }
    for name, control in made.items():
        control.style.description_width = "8.5em"
        control.layout.width = "22em"
        if hasattr(control, "continuous_update"):
            control.continuous_update = False
        if name in start.__dataclass_fields__ and name != "noise":
            control.value = getattr(start, name)
    return made
