"""How answers are decoded: settings, where they end, and what keeps other settings out."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Decoding:
    """The settings of `generate`, which explains them, checked.

    Raises:
        ValueError: a setting out of range.
    """

    max_new_tokens: int
    temperature: float
    top_p: float
    top_k: int
    samples: int
    stop: str | None

    def __post_init__(self) -> None:
        for name in ("max_new_tokens", "samples"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: {getattr(self, name)} is below 1.")
        if not 0 <= self.temperature < float("inf"):
            raise ValueError(f"temperature: {self.temperature} is not 0 (greedy) or above.")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p: {self.top_p} is not in (0, 1].")
        if self.top_k < 0:
            raise ValueError(f"top_k: {self.top_k} is negative; 0 allows all tokens.")
        if self.temperature == 0 and self.samples > 1:
            raise ValueError(
                f"samples: at temperature 0 all {self.samples} are the same; set a temperature."
            )
        if self.stop == "":
            raise ValueError("stop: it is empty; pass None to stop at no text.")


def configuration(decoding: Decoding, ends: list[int], padding: int, tokens: int) -> Any:
    """The same for transformers, for some tokens, with the logits as the model gave them."""
    from transformers import GenerationConfig

    sampling: dict[str, Any] = {"do_sample": False}
    if decoding.temperature > 0:
        sampling = {
            "do_sample": True,
            "temperature": decoding.temperature,
            "top_p": decoding.top_p,
            "top_k": decoding.top_k,
        }
    return GenerationConfig(
        **sampling,
        max_new_tokens=tokens,
        eos_token_id=ends or None,
        pad_token_id=padding,
        use_cache=True,
        return_dict_in_generate=True,
        output_logits=True,
    )


def ready(model: Any, batch_size: int) -> Any:
    """The model, if it can be run as it is.

    Raises:
        ValueError: it is in training mode, or a batch would be empty.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size: {batch_size} is below 1.")
    if model.training:
        raise ValueError("model: it is in training mode; call model.eval() first.")
    return model


def refuse_learnt_prompt(model: Any) -> None:
    """Under transformers 5 peft 0.21 puts its learnt prompt in once more at every token.

    Raises:
        ValueError: the model has one, so that other answers than its own would come out.
    """
    if getattr(getattr(model, "active_peft_config", None), "is_prompt_learning", False):
        raise ValueError(
            "model: peft repeats its learnt prompt at every token that it generates, so the answer "
            "would not be its own; generate with model.generate(use_cache=False), compare with "
            "the model's logits, and give the ids."
        )


@contextmanager
def nothing_else(model: Any) -> Generator[None]:
    """Inside the block the authors' settings do not act: transformers fills gaps with them."""
    from transformers import GenerationConfig

    owner = model.get_base_model() if hasattr(model, "get_base_model") else model
    shipped = owner.generation_config
    owner.generation_config = GenerationConfig()
    try:
        yield
    finally:
        owner.generation_config = shipped


@contextmanager
def seeded(seed: int | None) -> Generator[None]:
    """Random numbers from a seed inside the block, and the state before it afterwards."""
    import torch

    if seed is None:
        yield
        return
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


def stopping(tokenizer: Any, start: int, stop: str) -> Any:
    """A criterion for transformers: a row is done once its answer contains the text."""
    import torch

    def done(ids: Tensor, scores: Tensor, **_: Any) -> Tensor:
        found = [stop in text_of(tokenizer, row) for row in ids[:, start:].tolist()]
        return torch.tensor(found, device=ids.device)

    return done


def text_of(tokenizer: Any, ids: Sequence[int]) -> str:
    """What the tokens spell, special ones left out and nothing tidied."""
    return str(tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))


def before(stop: str, tokenizer: Any, ids: Sequence[int]) -> int | None:
    """How many tokens lie wholly before the text; None if it is not there."""
    found = text_of(tokenizer, ids).find(stop)
    if found < 0:
        return None
    kept = text_of(tokenizer, ids)[:found]
    lengths = range(len(ids), -1, -1)
    return next(n for n in lengths if kept.startswith(text_of(tokenizer, ids[:n])))
