"""Every class of transformers' causal-language-model mapping, scored as `gnuq.score` does it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from gnuq.architectures import truth
from gnuq.architectures.configurations import VOCABULARY, tiny
from gnuq.architectures.outcomes import Outcome, building, judged, random_model
from gnuq.scoring import Example, models
from gnuq.scoring.task import Task

TASK = "language model"
#: Prompts and answers of different lengths, so that a batch of them is padded.
EXAMPLES = (
    Example((1, 5, 7, 9, 11), (4, 8, 15, 16)),
    Example((1, 6), (9, 9, 11, 30, 12, 40)),
    Example((1, 2, 3, 4, 5, 6, 7, 30), (7,)),
    Example((1, 50, 3, 44), (5, 12)),
)
#: Bytes for a batch: all examples at once.
BUDGET = 2.0**30


class Ids:
    """Stands for a tokenizer where prompts and answers are ids."""

    bos_token_id, eos_token_id, pad_token_id, bos_token = 1, 2, 0, None

    def __len__(self) -> int:
        return VOCABULARY

    def __call__(self, text: str, **options: Any) -> Any:
        """There are no texts."""
        raise NotImplementedError


class Watched(Task):
    """A scoring task that remembers how large its batches were."""

    largest: int = 0

    def _batch(self, examples: list[Example], chosen: list[int], *, looked_at: bool = False) -> Any:
        found = super()._batch(examples, chosen, looked_at=looked_at)
        self.largest = max(self.largest, len(chosen))
        return found


def outcomes(only: set[str] | None = None) -> Iterator[Outcome]:
    """Class by class.

    Args:
        only: the model types to look at; all if omitted.
    """
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    for family, name in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.items():
        if only is None or family in only:
            first = name if isinstance(name, str) else name[0]
            yield judged(TASK, family, first, lambda f=family, n=first: measured(f, n))  # type: ignore[misc]


def measured(family: str, name: str) -> tuple[int, float]:
    """The largest batch, and the largest difference of any norm of any example.

    Raises:
        NotBuiltError: there is no small random model of the class.
        Exception: what scoring raises where it refuses the class.
    """
    model = built(family, name)
    with truth.InDouble():
        expected = _expected(model)
        models.ready(model, Ids())
        found = [_differences(model, expected, verify=verify) for verify in (False, True)]
    return found[-1][0], max(difference for _, difference in found)


def _differences(
    model: Any, expected: list[dict[str, float]], *, verify: bool
) -> tuple[int, float]:
    """Unverified, so that what is wrong shows; and verified, as `gnuq.score` does by itself."""
    task = Watched(model, "mean_probability", BUDGET, verify=verify)
    with warnings.catch_warnings(action="ignore"):  # that answers are scored one at a time
        rows = dict(task.attempts(EXAMPLES))
    differences = []
    for i, row in rows.items():
        if isinstance(row, Exception):
            raise row
        norms = {name: float(norm) for name, norm in row.in_unit(0.0).items()}
        differences.append(truth.largest_difference(norms, expected[i]))
    return (task.largest if task.budget else 1), max(differences)


def built(family: str, name: str) -> Any:
    """A small random model of a class, as `AutoModelForCausalLM.from_config` would make it."""
    import transformers
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    with building():
        kind = getattr(transformers, name)
        config = tiny(CONFIG_MAPPING[family])
        if hasattr(config, "is_decoder"):
            config.is_decoder = True
        if kind.config_class is not type(config) and hasattr(config, "get_text_config"):
            config = config.get_text_config(decoder=True)
    return random_model(kind, config)


def _expected(model: Any) -> list[dict[str, float]]:
    with building():
        return [
            truth.squared_norms(model, lambda e=example: mean_probability(model, e))  # type: ignore[misc]
            for example in EXAMPLES
        ]


def mean_probability(model: Any, example: Example) -> Tensor:
    """p̄ of an answer, Eq. (9), as anyone would call the model: no batch, no padding, no mask."""
    ids, first = torch.tensor([example.ids]), len(example.prompt) - 1
    logits = model(input_ids=ids, use_cache=False).logits[0, first : first + len(example.answer)]
    chosen = logits.log_softmax(-1).gather(1, torch.tensor(example.answer)[:, None])
    return chosen.exp().mean()
