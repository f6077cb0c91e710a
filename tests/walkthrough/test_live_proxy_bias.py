"""The proxy-bias figure shows the networks of Figure 1, rounded for the page and no further."""

from __future__ import annotations

import copy
import json

import torch
from torch.nn.utils import vector_to_parameters

from gnuq.results import proxy_bias
from gnuq.walkthrough.live_proxy_bias import proxy_bias_options


def test_the_page_s_numbers_give_the_same_network() -> None:
    options = proxy_bias_options()
    shown = json.loads(json.dumps(options, allow_nan=False))["problems"]
    assert list(shown) == ["xor", "rings", "linear"]
    for name, data in shown.items():
        run = proxy_bias.trained(name, 0)
        points = torch.tensor(data["x"]).reshape(-1, 2)
        network = copy.deepcopy(run.fit.network)  # the run is kept for other tests
        vector_to_parameters(torch.tensor(data["theta"]), network.parameters())
        assert torch.allclose(network(points), run.fit.network(points), atol=1e-3)
        assert torch.allclose(points, run.problem.inputs.to(points), rtol=1e-5)
        assert data["labels"] == run.problem.targets.tolist()
    assert options["widths"] == list(proxy_bias.NETWORK.hidden)


def test_a_choice_of_problems_keeps_its_order() -> None:
    assert list(proxy_bias_options(("rings", "xor"))["problems"]) == ["rings", "xor"]
