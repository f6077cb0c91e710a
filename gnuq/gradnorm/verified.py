"""Classes of the transformers package that a rule covers, by name: it is never imported here.

The source of every class was read in transformers 5.24, and a test holds each to its formula. A
class that is not listed, or that has another name in another version, goes through the fallback.
"""

from __future__ import annotations


def full_name(name: str) -> str:
    """From "llama.LlamaRMSNorm" to the class's full name, module path included."""
    family, _, kind = name.partition(".")
    return f"transformers.models.{family}.modeling_{family}.{kind}"


#: y = w ⊙ x̂, x̂ = x / rms(x) computed in float32, then rounded to x's data type.
ROUNDED_RMS_NORMS = (
    "apertus.ApertusRMSNorm",
    "arcee.ArceeRMSNorm",
    "bamba.BambaRMSNorm",
    "bitnet.BitNetRMSNorm",
    "cwm.CwmRMSNorm",
    "deepseek_v2.DeepseekV2RMSNorm",
    "deepseek_v3.DeepseekV3RMSNorm",
    "diffllama.DiffLlamaRMSNorm",
    "doge.DogeRMSNorm",
    "dots1.Dots1RMSNorm",
    "ernie4_5.Ernie4_5RMSNorm",
    "ernie4_5_moe.Ernie4_5_MoeRMSNorm",
    "exaone4.Exaone4RMSNorm",
    "falcon_h1.FalconH1RMSNorm",
    "falcon_mamba.FalconMambaRMSNorm",
    "glm.GlmRMSNorm",
    "glm4.Glm4RMSNorm",
    "glm4_moe.Glm4MoeRMSNorm",
    "granite.GraniteRMSNorm",
    "granitemoe.GraniteMoeRMSNorm",
    "granitemoehybrid.GraniteMoeHybridRMSNorm",
    "granitemoeshared.GraniteMoeSharedRMSNorm",
    "hunyuan_v1_dense.HunYuanDenseV1RMSNorm",
    "hunyuan_v1_moe.HunYuanMoEV1RMSNorm",
    "jamba.JambaRMSNorm",
    "jetmoe.JetMoeRMSNorm",
    "lfm2.Lfm2RMSNorm",
    "lfm2_moe.Lfm2MoeRMSNorm",
    "llama.LlamaRMSNorm",
    "llama4.Llama4TextRMSNorm",
    "mamba.MambaRMSNorm",
    "mamba2.Mamba2RMSNorm",
    "minimax.MiniMaxRMSNorm",
    "minimax_m2.MiniMaxM2RMSNorm",
    "ministral.MinistralRMSNorm",
    "ministral3.Ministral3RMSNorm",
    "mistral.MistralRMSNorm",
    "mixtral.MixtralRMSNorm",
    "olmoe.OlmoeRMSNorm",
    "phi3.Phi3RMSNorm",
    "qwen2.Qwen2RMSNorm",
    "qwen2_5_vl.Qwen2_5_VLRMSNorm",
    "qwen2_moe.Qwen2MoeRMSNorm",
    "qwen2_vl.Qwen2VLRMSNorm",
    "qwen3.Qwen3RMSNorm",
    "qwen3_moe.Qwen3MoeRMSNorm",
    "qwen3_vl.Qwen3VLTextRMSNorm",
    "qwen3_vl_moe.Qwen3VLMoeTextRMSNorm",
    "seed_oss.SeedOssRMSNorm",
    "smollm3.SmolLM3RMSNorm",
    "zamba.ZambaRMSNorm",
    "zamba2.Zamba2RMSNorm",
)

#: y = w ⊙ x̂ in float32, rounded to x's data type at the end.
WIDE_RMS_NORMS = (
    "flex_olmo.FlexOlmoRMSNorm",
    "gemma3n.Gemma3nRMSNorm",
    "gemma4.Gemma4RMSNorm",
    "gpt_oss.GptOssRMSNorm",
    "helium.HeliumRMSNorm",
    "nemotron_h.NemotronHRMSNorm",
    "olmo2.Olmo2RMSNorm",
    "olmo3.Olmo3RMSNorm",
    "olmo_hybrid.OlmoHybridRMSNorm",
)

#: y = (1 + w) ⊙ x̂ in float32, rounded to x's data type at the end.
SHIFTED_RMS_NORMS = (
    "gemma.GemmaRMSNorm",
    "gemma2.Gemma2RMSNorm",
    "gemma3.Gemma3RMSNorm",
    "qwen3_5.Qwen3_5RMSNorm",
    "qwen3_5_moe.Qwen3_5MoeRMSNorm",
    "qwen3_next.Qwen3NextRMSNorm",
    "recurrent_gemma.RecurrentGemmaRMSNorm",
    "vaultgemma.VaultGemmaRMSNorm",
)

#: Gated experts: `gate_up_proj` (experts, 2 · width, features), `down_proj` (experts, features,
#: width), called with hidden states, expert numbers and their weights, tokens in one dimension.
EXPERTS = (
    "afmoe.AfmoeExperts",
    "cohere2_moe.Cohere2MoeExperts",
    "deepseek_v2.DeepseekV2Experts",
    "deepseek_v3.DeepseekV3Experts",
    "deepseek_v4.DeepseekV4Experts",
    "dots1.Dots1Experts",
    "ernie4_5_moe.Ernie4_5_MoeExperts",
    "exaone_moe.ExaoneMoeExperts",
    "flex_olmo.FlexOlmoExperts",
    "gemma4.Gemma4TextExperts",
    "glm4_moe.Glm4MoeExperts",
    "granitemoe.GraniteMoeExperts",
    "granitemoehybrid.GraniteMoeHybridExperts",
    "granitemoeshared.GraniteMoeSharedExperts",
    "hunyuan_v1_moe.HunYuanMoEV1Experts",
    "jamba.JambaExperts",
    "lfm2_moe.Lfm2MoeExperts",
    "minimax.MiniMaxExperts",
    "minimax_m2.MiniMaxM2Experts",
    "mixtral.MixtralExperts",
    "olmoe.OlmoeExperts",
    "phimoe.PhimoeExperts",
    "qwen2_moe.Qwen2MoeExperts",
    "qwen3_5_moe.Qwen3_5MoeExperts",
    "qwen3_moe.Qwen3MoeExperts",
    "qwen3_next.Qwen3NextExperts",
    "qwen3_vl_moe.Qwen3VLMoeTextExperts",
)
