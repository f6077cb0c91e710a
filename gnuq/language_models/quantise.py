"""How a model's weights are stored: as its checkpoint has them, or quantised while loading."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

from gnuq.language_models.errors import ModelError
from gnuq.language_models.registry import LanguageModel, Quantisation

if TYPE_CHECKING:
    import torch
    from torch import nn


def stored(config: Any) -> str | None:
    """How the checkpoint itself is quantised, from its configuration; None if it is not."""
    told = getattr(config, "quantization_config", None)
    if told is None:
        return None
    told = told if isinstance(told, dict) else told.to_dict()
    method = getattr(told.get("quant_method"), "value", told.get("quant_method"))
    if method != "bitsandbytes":
        return str(method)
    return str(told.get("bnb_4bit_quant_type", "fp4")) if told.get("load_in_4bit") else "int8"


def chosen(name: str, asked: str | None, entry: LanguageModel | None, config: Any) -> str | None:
    """The quantisation that the model will have.

    Args:
        name: the model, for the messages.
        asked: what the user wants; "none" for none, None for the registry's.
        entry: the registry's entry, if there is one.
        config: the checkpoint's configuration.

    Raises:
        ValueError: no such quantisation.
        ModelError: the checkpoint cannot be had so.
    """
    known = get_args(Quantisation)
    if asked not in (None, "none", *known):
        raise ValueError(
            f"quantisation: {asked!r} is none of {', '.join(known)}; or pass 'none', or None for "
            "the model's own."
        )
    own = stored(config)
    if own is not None and asked not in (None, own):
        raise ModelError(
            f"{name}: its checkpoint is quantised already ({own}) and cannot be had as {asked!r}; "
            "leave quantisation out, or load the original."
        )
    wanted = own or asked or (entry.quantisation if entry else None)
    if wanted == "awq" and own is None:
        raise ModelError(
            f"{name}: its checkpoint is not quantised with AWQ, which takes data and is not done "
            "while loading; pass quantisation='nf4', or another revision."
        )
    return None if wanted == "none" else wanted


def configuration(how: str | None, config: Any, dtype: torch.dtype) -> Any:
    """What transformers needs to quantise while loading; None where there is nothing to say.

    For AWQ it names the kernel in plain torch: it has a backward pass, and the same numbers on
    every device, where the fastest kernels have neither.
    """
    from transformers import AwqConfig, BitsAndBytesConfig

    if how == "awq":
        from transformers.utils.quantization_config import AwqBackend

        return AwqConfig(backend=AwqBackend.TORCH_AWQ)
    if how is None or stored(config) is not None:
        return None
    if how == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type=how, bnb_4bit_compute_dtype=dtype
    )


def verified(name: str, how: str | None, model: nn.Module) -> None:
    """The model is quantised if it should be, and gradients pass through it rightly.

    Must come before any forward pass: on processors with AVX512-BF16 the first one without
    gradients would rearrange bitsandbytes' 4-bit weights, unless they are told not to.

    Raises:
        ModelError: it is not; the message names the layers.
    """
    from gnuq.gradnorm import UnsupportedModuleError, quantized_checks
    from gnuq.gradnorm.quantized import is_quantised

    found = any(is_quantised(module) for module in model.modules())
    if found != (how is not None):
        raise ModelError(
            f"{name}: transformers gave it {'' if found else 'no '}quantised layers, although "
            f"quantisation is {how!r}; report this, with the versions of both packages."
        )
    try:
        quantized_checks.check(model)
    except UnsupportedModuleError as error:
        raise ModelError(f"{name}: {error}") from error
