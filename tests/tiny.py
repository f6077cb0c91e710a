"""Tiny random models of the real transformers classes, a tokenizer, and the slow truth."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
import transformers as T
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor, nn

from gnuq.scoring import Example

WORDS = ["what", "is", "the", "capital", "of", "France", "Q", ":", "A", "Paris", "London", "yes"]
SPECIAL = ["<pad>", "<s>", "</s>", "<unk>"]
VOCABULARY = 61
TEMPLATE = "<s>{% for m in messages %}{{ m['role'] }} : {{ m['content'] }} {% endfor %}A :"


def tokenizer(template: bool = True) -> Any:
    """Words as tokens; puts <s> before what it encodes, as its chat template does."""
    from tokenizers.processors import TemplateProcessing

    words = list(dict.fromkeys([*SPECIAL, *WORDS, "user", "assistant"]))
    words += [f"w{i}" for i in range(VOCABULARY - len(words))]
    made = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return T.PreTrainedTokenizerFast(
        tokenizer_object=made,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        chat_template=TEMPLATE if template else None,
    )


SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 256,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
GROUPED = {**SIZES, "num_key_value_heads": 2}
HEADS = {**GROUPED, "head_dim": 8}
TOKENS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
GPT2 = {"vocab_size": VOCABULARY, "n_embd": 16, "n_layer": 2, "n_head": 4, "n_positions": 256}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 8}


def _experts(kind: type, config: Any) -> Any:
    """The reference implementation of the experts, which runs in any data type."""
    return kind._from_config(config, experts_implementation="eager")


#: Every architecture that the tests score, by name.
ARCHITECTURES: dict[str, Callable[[], Any]] = {
    "llama": lambda: T.LlamaForCausalLM(T.LlamaConfig(**GROUPED)),
    "llama-tied": lambda: T.LlamaForCausalLM(T.LlamaConfig(**GROUPED, tie_word_embeddings=True)),
    "llama-biases": lambda: T.LlamaForCausalLM(
        T.LlamaConfig(**GROUPED, attention_bias=True, mlp_bias=True)
    ),
    "qwen2": lambda: T.Qwen2ForCausalLM(T.Qwen2Config(**GROUPED)),
    "qwen3": lambda: T.Qwen3ForCausalLM(T.Qwen3Config(**HEADS)),
    "mistral-sliding": lambda: T.MistralForCausalLM(T.MistralConfig(**GROUPED, sliding_window=4)),
    "phi3": lambda: T.Phi3ForCausalLM(T.Phi3Config(**GROUPED)),
    "gemma2-softcapped": lambda: T.Gemma2ForCausalLM(T.Gemma2Config(**HEADS, sliding_window=4)),
    "gemma3": lambda: T.Gemma3ForCausalLM(T.Gemma3TextConfig(**HEADS, sliding_window=4)),
    "olmo": lambda: T.OlmoForCausalLM(T.OlmoConfig(**SIZES)),
    "olmo2": lambda: T.Olmo2ForCausalLM(T.Olmo2Config(**SIZES)),
    "gpt2": lambda: T.GPT2LMHeadModel(T.GPT2Config(**GPT2, **TOKENS)),
    "gpt-neox": lambda: T.GPTNeoXForCausalLM(T.GPTNeoXConfig(**SIZES)),
    "opt": lambda: T.OPTForCausalLM(
        T.OPTConfig(
            vocab_size=VOCABULARY,
            hidden_size=16,
            ffn_dim=24,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=256,
            word_embed_proj_dim=16,
            **TOKENS,
        )
    ),
    "falcon": lambda: T.FalconForCausalLM(
        T.FalconConfig(
            vocab_size=VOCABULARY,
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=4,
            **TOKENS,
        )
    ),
    "mixtral-experts": lambda: _experts(
        T.MixtralForCausalLM, T.MixtralConfig(**GROUPED, num_local_experts=4)
    ),
    "qwen3-experts": lambda: _experts(
        T.Qwen3MoeForCausalLM, T.Qwen3MoeConfig(**HEADS, **EXPERTS, decoder_sparse_step=1)
    ),
}

#: Prompts and answers of different lengths, so that every batch of them is padded.
EXAMPLES = [
    Example((1, 5, 7, 9, 11), (4, 8, 15, 16)),
    Example((1, 6), (9, 9, 11, 30, 12, 40)),
    Example((1, 2, 3, 4, 5, 6, 7, 30), (7,)),
    Example((1, 50, 3, 44), (5, 12)),
]


def model(name: str, dtype: torch.dtype = torch.float64, seed: int = 0) -> Any:
    """A random model, its weights large enough for the layers to matter."""
    torch.manual_seed(seed)
    made = ARCHITECTURES[name]().to(dtype).eval()
    for parameter in made.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=0.15)
    return made


def probabilities(made: Any, example: Example) -> Tensor:
    """p_t of the answer's tokens: the model as anyone would call it, without batch or padding."""
    ids = torch.tensor([example.ids], device=made.device)
    log_p = made(input_ids=ids, use_cache=False).logits[0].log_softmax(-1)
    first = len(example.prompt) - 1
    return torch.stack([log_p[first + t, y] for t, y in enumerate(example.answer)]).exp()


def squared_norms(
    made: Any, example: Example, objective: Callable[[Tensor], Tensor] = torch.mean
) -> dict[str, Tensor]:
    """‖∂ objective(p) / ∂θ_j‖² by parameter, from one plain backward pass."""
    kept = {name: p.requires_grad for name, p in made.named_parameters()}
    made.requires_grad_(True)
    made.zero_grad(set_to_none=True)
    objective(probabilities(made, example)).backward()
    found = {
        name: p.grad.double().square().sum()
        for name, p in made.named_parameters()
        if p.grad is not None
    }
    made.zero_grad(set_to_none=True)
    for name, p in made.named_parameters():
        p.requires_grad_(kept[name])
    return found
