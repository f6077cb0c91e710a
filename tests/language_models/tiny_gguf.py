"""The tiny Llama as a GGUF file, with a tokenizer of either kind, as llama.cpp would write it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from tokenizers import pre_tokenizers
from transformers import LlamaForCausalLM

from tests.language_models import tiny

NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "post_attention_layernorm": "ffn_norm",
    "input_layernorm": "attn_norm",
    "model.layers": "blk",
}
TEXTS = ["a a  a", "é, e\u0301 and 日本 🙂", "in 1987:\n\n 12 \t345", "it's IT'S", " <tool> a"]
LETTERS = sorted(pre_tokenizers.ByteLevel.alphabet())
TOKENS = ["<|endoftext|>", "<|im_end|>", "<tool>", *LETTERS, "Ġa", "Ã©", "12", ":Ċ"]
MERGES = ["Ġ a", "Ã ©", "1 2", ": Ċ"]
BYTE_LEVEL = {
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.pre": "qwen2",
    "tokenizer.ggml.tokens": TOKENS,
    "tokenizer.ggml.token_type": [3, 3, 4] + [1] * (len(TOKENS) - 3),
    "tokenizer.ggml.merges": MERGES,
    "tokenizer.ggml.eos_token_id": 1,
    "tokenizer.ggml.bos_token_id": 0,
    "tokenizer.ggml.padding_token_id": 0,
    "tokenizer.ggml.add_bos_token": False,
    "tokenizer.chat_template": "{% for m in messages %}{{ m.content }}<|im_end|>{% endfor %}",
}
"""The metadata of a byte-level tokenizer, of Qwen2's kind."""
PIECES = ["<unk>", "<s>", "</s>", "▁", "a", "b", "▁a", "ab", "▁ab"]
BYTES = [f"<0x{i:02X}>" for i in range(len(TOKENS) - len(PIECES))]


def sentencepiece(*, blank: bool) -> dict[str, Any]:
    """The metadata of a vocabulary of SentencePiece's kind, as Llama 2 has it."""
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.tokens": [*PIECES, *BYTES],
        "tokenizer.ggml.scores": [-float(i) for i in range(len(TOKENS))],
        "tokenizer.ggml.token_type": [2, 3, 3] + [1] * (len(PIECES) - 3) + [6] * len(BYTES),
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.unknown_token_id": 0,
        "tokenizer.ggml.add_bos_token": True,
        "tokenizer.ggml.add_space_prefix": blank,
    }


def model() -> LlamaForCausalLM:
    return tiny.llama(dtype=torch.float32, vocab_size=len(TOKENS))


def renamed(name: str) -> str:
    for theirs, ours in NAMES.items():
        name = name.replace(theirs, ours)
    return name


def interleaved(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """GGUF keeps the two halves of a head's rotary dimensions in turn, transformers in a row."""
    rows, columns = weight.shape
    halves = weight.reshape(heads, 2, rows // heads // 2, columns)
    return halves.swapaxes(1, 2).reshape(rows, columns)


def written(
    file: Path,
    *,
    kind: str = "llama",
    told: dict[str, Any] = BYTE_LEVEL,
    more: dict[str, np.ndarray] | None = None,
    less: tuple[str, ...] = (),
) -> Path:
    """A tiny model as a GGUF file, with other metadata, with more tensors, or with fewer."""
    writer = gguf.GGUFWriter(file, kind)
    writer.add_context_length(128)
    writer.add_embedding_length(64)
    writer.add_feed_forward_length(96)
    writer.add_block_count(2)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(1e-6)
    for name, value in told.items():
        writer.add_key_value(name, value, *types_of(value))
    for name, weight in model().state_dict().items():
        heads = 4 if "q_proj" in name else 2 if "k_proj" in name else None
        stored = weight if heads is None else interleaved(weight, heads)
        if renamed(name) not in less:
            writer.add_tensor(renamed(name), stored.numpy())
    for name, values in (more or {}).items():
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def types_of(value: Any) -> tuple[gguf.GGUFValueType, ...]:
    kind = gguf.GGUFValueType.get_type
    return (kind(value), kind(value[0])) if isinstance(value, list) else (kind(value),)
