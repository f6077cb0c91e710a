"""A tiny Llama and its byte-level tokenizer, random and complete, for tests without a network."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

BOS, EOS = "<s>", "</s>"
PROMPTS = ["a", "Which river is the longest?", "xyz", "Q: what\nA:", "one more, the last"]


def tokenizer(*, begins: bool = True, closes: bool = False) -> PreTrainedTokenizerFast:
    """Every byte is a token, and so is a full stop with the newline behind it; none pads."""
    letters = [BOS, EOS, *sorted(pre_tokenizers.ByteLevel.alphabet()), ".Ċ"]
    vocabulary = {letter: i for i, letter in enumerate(letters)}
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=[(".", "Ċ")]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([AddedToken(BOS, special=True), AddedToken(EOS, special=True)])
    shape = f"{BOS + ' ' if begins else ''}$A{' ' + EOS if closes else ''}"
    made.post_processor = processors.TemplateProcessing(
        single=shape, special_tokens=[(BOS, 0), (EOS, 1)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=made, bos_token=BOS, eos_token=EOS)


def llama(seed: int = 0, dtype: torch.dtype = torch.float64, **settings: int) -> LlamaForCausalLM:
    """Two layers with weights so large that the next token is not a matter of rounding."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        **{
            "vocab_size": 259,
            "hidden_size": 64,
            "intermediate_size": 96,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 128,
            "bos_token_id": 0,
            "eos_token_id": 1,
        }
        | settings
    )
    model = LlamaForCausalLM(config).to(dtype).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.normal_(std=0.2)
    return model


def saved(
    folder: Path, model: torch.nn.Module | None = None, *, with_tokenizer: bool = True
) -> str:
    """The model and its tokenizer in a folder."""
    (model or llama(dtype=torch.float32)).save_pretrained(folder)
    if with_tokenizer:
        tokenizer().save_pretrained(folder)
    return str(folder)
