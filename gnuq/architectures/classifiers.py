"""Classifier heads of the best-known text, image and audio families of transformers.

All classes at once, ‖∇p_k‖² of every k, as `gnuq.estimators.epistemic` does it: a batch of
examples, verified; where that is refused, one example at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from gnuq.architectures import truth
from gnuq.architectures.configurations import VOCABULARY, tiny
from gnuq.architectures.outcomes import Outcome, building, judged, random_model
from gnuq.gradnorm import UnsupportedModuleError, squared_gradient_norms

BATCH = 4
#: What each kind of classifier is called in transformers' tables.
MAPPINGS = {
    "text classifier": "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES",
    "image classifier": "MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES",
    "audio classifier": "MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING_NAMES",
}
#: The families, by task.
FAMILIES: dict[str, tuple[str, ...]] = {
    "text classifier": (
        *("bert", "distilbert", "roberta", "deberta", "deberta-v2", "electra", "albert", "xlnet"),
        *("t5", "bart", "xlm-roberta", "mpnet", "longformer", "modernbert", "mobilebert"),
        *("funnel", "gpt2", "llama"),
    ),
    "image classifier": (
        *("vit", "deit", "beit", "swin", "swinv2", "convnext", "convnextv2", "siglip", "clip"),
        *("resnet", "regnet", "dinov2", "mobilenet_v2", "efficientnet", "segformer", "poolformer"),
    ),
    "audio classifier": (
        *("wav2vec2", "hubert", "whisper", "audio-spectrogram-transformer", "wavlm"),
        *("data2vec-audio", "sew", "unispeech"),
    ),
}


def outcomes(only: set[str] | None = None) -> Iterator[Outcome]:
    """Class by class; `only` as for the language models."""
    from transformers.models.auto import modeling_auto

    for task, families in FAMILIES.items():
        names = getattr(modeling_auto, MAPPINGS[task])
        for family in families:
            if only is None or family in only:
                found = names.get(family, "")
                name = found if isinstance(found, str) else found[0]
                yield judged(task, family, name, lambda t=task, f=family, n=name: measured(t, f, n))  # type: ignore[misc]


def measured(task: str, family: str, name: str) -> tuple[int, float]:
    """The largest batch, and the largest difference of any norm of any class and example.

    Raises:
        NotBuiltError: there is no small random model of the class.
        UnsupportedModuleError: it is refused, one example at a time too.
    """
    model = built(family, name)
    inputs = inputs_of(task, model)
    with truth.InDouble():
        expected = _expected(model, inputs)
        try:
            found, batch = squared_gradient_norms(model, inputs, probabilities), BATCH
        except UnsupportedModuleError:
            found, batch = squared_gradient_norms(model, inputs, probabilities, batch_size=1), 1
    differences = [
        truth.largest_difference(
            {key: float(norm[b, k]) for key, norm in found.by_parameter.items()}, expected[b][k]
        )
        for b in range(BATCH)
        for k in range(found.total.shape[1])
    ]
    return batch, max(differences)


def built(family: str, name: str) -> Any:
    """A small random model of a class."""
    import transformers
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    with building():
        kind = getattr(transformers, name)
        config = tiny(CONFIG_MAPPING[family], num_labels=3)
    return random_model(kind, config)


def inputs_of(task: str, model: Any) -> Mapping[str, Tensor]:
    """Random inputs of a kind, texts padded to one length."""
    generator = torch.Generator().manual_seed(0)

    def noise(*shape: int) -> Tensor:
        return torch.randn(BATCH, *shape, generator=generator, dtype=torch.float64)

    if task == "text classifier":
        ids = torch.randint(3, VOCABULARY, (BATCH, 12), generator=generator)
        mask = torch.ones_like(ids)
        mask[1, 9:], mask[3, 7:] = 0, 0
        ids[:, -1] = 2  # the end token, whose state some heads read
        ids[mask == 0] = int(model.config.pad_token_id or 0)
        for row, last in enumerate(mask.sum(1) - 1):
            ids[row, last] = 2
        return {"input_ids": ids, "attention_mask": mask}
    config = model.config
    if task == "image classifier":
        size = getattr(getattr(config, "vision_config", config), "image_size", 32)
        size = size if isinstance(size, int) else size[0]
        return {"pixel_values": noise(3, size, size)}
    if config.model_type == "whisper":
        return {"input_features": noise(config.num_mel_bins, 2 * config.max_source_positions)}
    if config.model_type == "audio-spectrogram-transformer":
        return {"input_values": noise(config.max_length, config.num_mel_bins)}
    return {"input_values": noise(2000)}


def probabilities(output: Any) -> Tensor:
    """p_k, shape (batch, classes)."""
    return output.logits.softmax(-1)


def _expected(model: Any, inputs: Mapping[str, Tensor]) -> list[list[dict[str, float]]]:
    with building():
        return [
            [truth.squared_norms(model, p) for p in _each(model, inputs, b)] for b in range(BATCH)
        ]


def _each(model: Any, inputs: Mapping[str, Tensor], example: int) -> list[Callable[[], Tensor]]:
    """Each class's probability of one example, alone."""
    one = {name: x[example : example + 1] for name, x in inputs.items()}
    return [lambda k=k: probabilities(model(**one))[0, k] for k in range(model.config.num_labels)]  # type: ignore[misc]
