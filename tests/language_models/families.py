"""Tiny models, random and complete, that remember what they read in different ways."""

from __future__ import annotations

from collections.abc import Callable

import torch
from transformers import (
    AutoModelForCausalLM,
    BambaConfig,
    BloomConfig,
    FalconMambaConfig,
    Gemma3TextConfig,
    GPT2Config,
    MistralConfig,
    PreTrainedConfig,
    PreTrainedModel,
)

from tests.language_models import tiny

SIZES = {
    "vocab_size": 259,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 0,
}
WINDOW = 8  # of attention, in tokens: shorter than prompts
ATTENTION: dict[str, Callable[[], PreTrainedConfig]] = {
    "gpt2": lambda: GPT2Config(vocab_size=259, n_embd=64, n_layer=2, n_head=4, eos_token_id=1),
    "bloom": lambda: BloomConfig(**SIZES | {"n_layer": 2, "n_head": 4}),
    "mistral": lambda: MistralConfig(**SIZES, sliding_window=WINDOW),
    "gemma3": lambda: Gemma3TextConfig(
        **SIZES,
        head_dim=16,
        sliding_window=WINDOW,
        layer_types=["sliding_attention", "full_attention"],
    ),
}
RECURRENT: dict[str, Callable[[], PreTrainedConfig]] = {
    "falcon-mamba": lambda: FalconMambaConfig(**SIZES, state_size=8),
    "bamba": lambda: BambaConfig(
        **SIZES, mamba_n_heads=8, mamba_d_state=8, mamba_d_head=16, mamba_n_groups=1,
        attn_layer_indices=[1],
    ),
}  # fmt: skip


def made(name: str) -> PreTrainedModel:
    """Random, with weights so large that the next token is not a matter of rounding."""
    if name == "llama":
        return tiny.llama()
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config((ATTENTION | RECURRENT)[name]()).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.normal_(std=0.2)
    return model
