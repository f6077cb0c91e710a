"""The whole sweep: every class, in order, as a table."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import pandas as pd
import torch

from gnuq.architectures import causal, classifiers
from gnuq.architectures.outcomes import Outcome, table

#: What a replay looks at again: a dense model, experts, linear attention, an encoder.
SAMPLE = ("llama", "qwen3_moe", "qwen3_next", "llama4_text", "distilbert", "vit")


#: Tasks in the order of the table.
ORDER = {task: i for i, task in enumerate((causal.TASK, *classifiers.FAMILIES))}


def families() -> list[str]:
    """All model types that the sweep looks at."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    others = [kind for kinds in classifiers.FAMILIES.values() for kind in kinds]
    return list(dict.fromkeys([*MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, *others]))


def sweep(only: Collection[str] | None = None) -> pd.DataFrame:
    """One row a class: see `gnuq.architectures.outcomes.Outcome`.

    Args:
        only: model types; all if omitted.
    """
    from transformers import __version__
    from transformers.utils import logging

    logging.set_verbosity_error()
    chosen, threads = None if only is None else set(only), torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        found = [*causal.outcomes(chosen), *classifiers.outcomes(chosen)]
    finally:
        torch.set_num_threads(threads)
    return table([_short(outcome) for outcome in found]).assign(transformers=__version__)


def _short(outcome: Outcome) -> Outcome:
    """Its sentence alone, without the shapes of the small model."""
    return replace(outcome, sentence=outcome.sentence[:240])
