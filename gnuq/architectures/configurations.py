"""The smallest configuration of any class of transformers that still has every kind of layer.

A configuration class is asked for its defaults; of the names that it knows, those in `SIZES` get
small values, in its parts too. What a family needs beyond that stands in `SPECIAL`.
"""

from __future__ import annotations

from typing import Any

VOCABULARY = 61
WIDTH = 32

#: Small values by the names that configurations use.
SIZES: dict[str, Any] = {
    **dict.fromkeys(
        ("vocab_size", "decoder_vocab_size", "unpadded_vocab_size", "vocab_size_per_layer_input"),
        VOCABULARY,
    ),
    **dict.fromkeys(
        ("hidden_size", "d_model", "n_embd", "embedding_size", "word_embed_proj_dim", "emb_dim"),
        WIDTH,
    ),
    **dict.fromkeys(("dim_model_base", "lru_width", "attention_hidden_size"), WIDTH),
    **dict.fromkeys(
        ("intermediate_size", "ffn_dim", "decoder_ffn_dim", "encoder_ffn_dim", "dim_ff", "dff"),
        48,
    ),
    **dict.fromkeys(
        ("ffn_hidden_size", "feed_forward_size", "expert_ffn_hidden_size", "d_inner"), 48
    ),
    **dict.fromkeys(
        (
            *(
                "moe_intermediate_size",
                "shared_expert_intermediate_size",
                "shared_intermediate_size",
            ),
            *("moe_shared_expert_intermediate_size", "intermediate_size_mlp"),
            *("dense_intermediate_size", "shared_experts_intermediate_size"),
        ),
        24,
    ),
    **dict.fromkeys(
        ("num_hidden_layers", "n_layer", "n_layers", "decoder_layers", "encoder_layers"), 4
    ),
    **dict.fromkeys(("num_layers", "num_decoder_layers", "num_encoder_layers"), 4),
    **dict.fromkeys(
        (
            *("num_attention_heads", "n_head", "n_heads", "num_heads", "decoder_attention_heads"),
            *("encoder_attention_heads", "swa_num_attention_heads"),
            *("num_decoder_attention_heads", "num_encoder_attention_heads"),
        ),
        4,
    ),
    **dict.fromkeys(("num_key_value_heads", "num_kv_heads", "swa_num_key_value_heads"), 2),
    **dict.fromkeys(
        ("head_dim", "swa_head_dim", "dim_head", "kv_channels", "attention_head_size"), 8
    ),
    **dict.fromkeys(
        ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "model_max_length"), 128
    ),
    **dict.fromkeys(("num_experts", "n_routed_experts", "num_local_experts", "moe_num_experts"), 4),
    **dict.fromkeys(
        ("num_experts_per_tok", "moe_topk", "moe_k", "num_experts_per_token", "moe_top_k"), 2
    ),
    **dict.fromkeys(("n_group", "topk_group", "num_expert_group"), 1),
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 1,
    "forced_eos_token_id": 2,
    "sep_token_id": 2,
    "sliding_window": 4,
    "sliding_window_size": 4,
    "attention_window_size": 4,
    # low ranks of the attention of DeepSeek's kind
    "q_lora_rank": 12,
    "kv_lora_rank": 16,
    "qk_rope_head_dim": 4,
    "qk_nope_head_dim": 8,
    "v_head_dim": 8,
    # state-space and linear-attention layers
    "linear_num_heads": 2,
    "linear_head_dim": 8,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "mamba_d_state": 8,
    "mamba_n_heads": 8,
    "mamba_d_head": 8,
    "mamba_expand": 2,
    "mamba_n_groups": 1,
    "mamba_chunk_size": 8,
    "state_size": 8,
    "chunk_size": 8,
    "type_vocab_size": 2,
    # images and sounds
    "image_size": 32,
    "patch_size": 8,
    "max_source_positions": 20,
    "num_mel_bins": 16,
    "num_labels": 3,
    "hidden_dropout": 0.0,
}

#: What a family needs beyond `SIZES`, by model type; None leaves a name at its default.
SPECIAL: dict[str, dict[str, Any]] = {
    "audio-spectrogram-transformer": {"max_length": 32},
    "codegen": {"rotary_dim": 4},
    "cohere_compass_text": {
        "layer_types": ["full_attention", "sliding_attention"] * 2,
        "rope_parameters": {
            kind: {"rope_type": "default", "rope_theta": 10000.0}
            for kind in ("full_attention", "sliding_attention")
        },
    },
    "cpmant": {"prompt_types": 4, "prompt_length": 4},
    "dbrx": {
        "attn_config": {"kv_n_heads": 2, "rope_theta": 10000.0, "clip_qkv": 8.0},
        "ffn_config": {"ffn_hidden_size": 24, "moe_num_experts": 4, "moe_top_k": 2},
    },
    "dots1": {"n_shared_experts": 1},
    "falcon_h1": {"mamba_d_ssm": 64},
    "gemma3n_text": {
        "layer_types": ["sliding_attention", "full_attention"] * 2,
        "num_kv_shared_layers": 2,
        "hidden_size_per_layer_input": 8,
        "laurel_rank": 4,
        "activation_sparsity_pattern": [0.5, 0.5, 0.0, 0.0],
    },
    "gpt_neo": {"attention_types": [[["global", "local"], 2]], "window_size": 4},
    "gptj": {"rotary_dim": 4},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * 2, "num_dense_layers": 1},
    "longcat_flash": {"zero_expert_num": 1},
    "mamba2": {"num_heads": 8, "head_dim": 8},
    "qwen4_exp_text": {
        "indexer_n_heads": 2,
        "indexer_kv_heads": 1,
        "indexer_head_dim": 8,
        "indexer_budget": 8,
        "indexer_compress_ratio": 2,
    },
    "reformer": {
        "axial_pos_shape": [8, 16],
        "axial_pos_embds_dim": [16, 16],
        "attn_layers": ["local"] * 4,
    },
    "convnext": {"hidden_sizes": [8, 16], "depths": [1, 1], "num_stages": 2},
    "convnextv2": {"hidden_sizes": [8, 16], "depths": [1, 1], "num_stages": 2},
    "distilbert": {"dim": WIDTH, "hidden_dim": 48},
    "efficientnet": {"width_coefficient": 0.1, "depth_coefficient": 0.3, "hidden_dim": 128},
    "regnet": {
        "embedding_size": 8,
        "hidden_sizes": [8, 16],
        "depths": [1, 1],
        "groups_width": 4,
        "layer_type": "x",
    },
    "resnet": {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1]},
    "segformer": {
        "hidden_sizes": [8, 16],
        "depths": [1, 1],
        "num_attention_heads": [1, 2],
        "num_encoder_blocks": 2,
        "sr_ratios": [2, 1],
        "patch_sizes": [7, 3],
        "strides": [4, 2],
        "mlp_ratios": [2, 2],
        "decoder_hidden_size": 16,
    },
    "swin": {
        "embed_dim": 8,
        "depths": [2, 2],
        "num_heads": [2, 2],
        "window_size": 4,
        "patch_size": 4,
    },
    "swinv2": {
        "embed_dim": 8,
        "depths": [2, 2],
        "num_heads": [2, 2],
        "window_size": 4,
        "patch_size": 4,
    },
    "t5": {"decoder_start_token_id": 0, "d_kv": 8, "d_ff": 48},
    "xmod": {"default_language": "en_XX"},
    "zamba": {
        "attention_hidden_size": 64,
        "attention_head_dim": 16,
        "attn_layer_period": 2,
        "attn_layer_offset": 1,
    },
    "zamba2": {
        "layers_block_type": ["mamba", "hybrid"] * 2,
        "num_mem_blocks": 1,
        "attention_hidden_size": 64,
        "attention_head_dim": 16,
    },
    "zaya": {"num_experts_per_tok": 1},
}


def tiny(kind: type[Any], **given: Any) -> Any:
    """A small configuration of a class.

    Args:
        kind: a configuration class of transformers.
        **given: what the caller decides; wins over everything.
    """
    return kind(**{**_chosen(kind), **given})


def _chosen(kind: type[Any]) -> dict[str, Any]:
    defaults = kind()
    names = defaults.to_dict()
    special = SPECIAL.get(kind.model_type, {})
    found = {name: value for name, value in SIZES.items() if name in names}
    for name, part in (getattr(kind, "sub_configs", None) or {}).items():
        if isinstance(part, type) and hasattr(part, "model_type") and name not in special:
            try:
                found[name] = _chosen(part)
            except TypeError:  # an automatic class: any configuration
                continue
    if "qk_rope_head_dim" in names:  # attention of DeepSeek's kind rotates these numbers only
        found |= {"head_dim": SIZES["qk_rope_head_dim"], "num_key_value_heads": 4}
    found |= special
    return {name: value for name, value in found.items() if value is not None}
