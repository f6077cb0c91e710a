"""Networks that all gradient tests share: each layer kind, and mixtures that share or repeat."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class Case:
    """A model in float64, inputs for a given batch size, and an objective."""

    name: str
    build: Callable[[], nn.Module]
    inputs: Callable[[int], Tensor | tuple | dict]
    objective: Callable

    def __str__(self) -> str:
        return self.name


def probabilities(logits: Tensor) -> Tensor:
    """All classes at once."""
    return logits.softmax(-1)


def mean_of_one(logits: Tensor) -> Tensor:
    """One scalar an example, from all tokens."""
    return logits.softmax(-1)[..., 1].flatten(1).mean(1)


class TiedLanguageModel(nn.Module):
    """Embedding tied to the head, a linear layer called twice, both kinds of norm, padding."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 6, padding_idx=0)
        self.rms = nn.RMSNorm(6)
        self.mix = nn.Linear(6, 6)
        self.norm = nn.LayerNorm(6)
        self.head = nn.Linear(6, 11, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, ids: Tensor) -> Tensor:
        x = self.rms(self.embed(ids))
        return self.head(x + self.mix(torch.tanh(self.mix(self.norm(x)))))


class LateUse(nn.Module):
    """A second branch that one of the two objectives does not reach."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(3, 2), nn.Linear(3, 2)
        self.unused = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.left(x).tanh(), self.right(x).tanh()


class ScaledEmbedding(nn.Embedding):
    """A subclass that computes something else than its parent, as Gemma's does."""

    def forward(self, ids: Tensor) -> Tensor:
        return super().forward(ids) * 3.0


class ClassToken(nn.Module):
    """Owns a parameter beside child modules, as a vision transformer does."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.randn(1, 1, 4))
        self.block = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1)
        return self.head(self.block(x)[:, 0])


class Keywords(nn.Module):
    """Takes keyword arguments of several kinds."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.linear = nn.Embedding(5, 4), nn.Linear(2, 4)

    def forward(self, ids: Tensor, values: Tensor) -> Tensor:
        return self.embed(ids).mean(1) * self.linear(values)


def mlp() -> nn.Module:
    """In-place activations between linear layers."""
    return nn.Sequential(
        nn.Linear(3, 8), nn.ReLU(inplace=True), nn.Linear(8, 5), nn.Tanh(), nn.Linear(5, 4)
    )


def convolutional() -> nn.Module:
    """Convolutions and batch norm (in eval mode)."""
    model = nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(48, 3)
    )
    model[1].running_mean.normal_()
    model[1].running_var.uniform_(0.5, 2)
    return model


def weight_normalised() -> nn.Module:
    """Keeps the type Linear, but owns other parameters."""
    return nn.Sequential(torch.nn.utils.weight_norm(nn.Linear(3, 4)), nn.Tanh(), nn.Linear(4, 2))


def parametrised() -> nn.Module:
    """Weights computed by parametrisations, one of a layer without other parameters."""
    spectral = torch.nn.utils.parametrizations.spectral_norm(nn.Linear(3, 4, bias=False))
    return nn.Sequential(
        spectral, nn.Tanh(), torch.nn.utils.parametrizations.weight_norm(nn.Linear(4, 2))
    )


def both(outputs: tuple[Tensor, Tensor]) -> Tensor:
    """Two objectives, each of one branch only."""
    return torch.stack([outputs[0].sum(1), outputs[1].sum(1)], 1)


def last_state(outputs: tuple) -> Tensor:
    """The last output of a recurrent network."""
    return outputs[0][:, -1]


CASES = [
    Case("mlp", mlp, lambda b: torch.randn(b, 3), probabilities),
    Case("mlp on tokens", mlp, lambda b: torch.randn(b, 6, 3), mean_of_one),
    Case("mlp on long sequences", mlp, lambda b: torch.randn(b, 40, 3), mean_of_one),
    Case("tied", TiedLanguageModel, lambda b: torch.randint(0, 11, (b, 7)), mean_of_one),
    Case("two branches", LateUse, lambda b: torch.randn(b, 3), both),
    Case("class token", ClassToken, lambda b: torch.randn(b, 5, 4), probabilities),
    Case("convolutional", convolutional, lambda b: torch.randn(b, 1, 6, 6), probabilities),
    Case("recurrent", lambda: nn.LSTM(3, 4, batch_first=True), lambda b: torch.randn(b, 5, 3),
         last_state),
    Case("weight norm", weight_normalised, lambda b: torch.randn(b, 3), probabilities),
    Case("parametrised", parametrised, lambda b: torch.randn(b, 3), probabilities),
    Case("subclass", lambda: nn.Sequential(ScaledEmbedding(7, 3), nn.Linear(3, 2)),
         lambda b: torch.randint(0, 7, (b, 4)), mean_of_one),
    Case("prelu", lambda: nn.Sequential(nn.Linear(3, 4), nn.PReLU(4), nn.Linear(4, 2)),
         lambda b: torch.randn(b, 3), probabilities),
    Case("keywords", Keywords,
         lambda b: {"ids": torch.randint(0, 5, (b, 3)), "values": torch.randn(b, 2)},
         probabilities),
    Case("positional", Keywords,
         lambda b: (torch.randint(0, 5, (b, 3)), torch.randn(b, 2)), F.silu),
]  # fmt: skip
