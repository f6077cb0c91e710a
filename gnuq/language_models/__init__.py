r"""Language models by name, at pinned revisions, quantised as the paper has them.

    loaded = load()                                     # SmolLM2-135M: no network, seconds
    loaded = load("llama-3.2-3b")                       # the paper's, from the Hugging Face hub
    answers = generate(loaded, loaded.tokenizer, ["Q: What is the capital of France?\nA:"])

`registry` says which model a name means, `load` loads it, `offline` makes the one that needs no
network, `errors` turns what can go wrong into a remedy, `generate` samples answers, `next_token`
gives the probabilities behind prompts. torch and transformers are imported when a model is loaded,
not before.
"""

from gnuq.language_models.errors import ModelError
from gnuq.language_models.generate import Generated, generate
from gnuq.language_models.load import Loaded, device_name, load
from gnuq.language_models.next_token import next_token
from gnuq.language_models.registry import MODELS, LanguageModel, find

__all__ = [
    "MODELS",
    "Generated",
    "LanguageModel",
    "Loaded",
    "ModelError",
    "device_name",
    "find",
    "generate",
    "load",
    "next_token",
]
