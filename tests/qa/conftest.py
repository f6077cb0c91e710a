"""A tiny model in a folder, a benchmark of a few questions, and a run of the one on the other."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from gnuq.qa.settings import Run, Settings
from tests.language_models import tiny

WORDS = (
    "moon",
    "sun",
    "sea",
    "hill",
    "bird",
    "tree",
    "road",
    "lamp",
    "ship",
    "bell",
    "rain",
    "fox",
)


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A byte-level Llama with room for the demonstrations of P(True)."""
    folder = tmp_path_factory.mktemp("tiny-llama")
    made = tiny.llama(dtype=torch.float32, max_position_embeddings=8192)
    return tiny.saved(folder, made) or str(folder)


@pytest.fixture(scope="session")
def questions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve questions; a random byte is right about half of them."""
    path = tmp_path_factory.mktemp("benchmark") / "words.jsonl"
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    rows = [
        {
            "id": f"q{i}",
            "question": f"Which {word}?",
            "correct": list(letters) if i % 2 else ["none of these words"],
        }
        for i, word in enumerate(WORDS)
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


@pytest.fixture(scope="session")
def run(model: str, questions: Path) -> Run:
    """Small in every respect."""
    settings = Settings(samples=3, max_new_tokens=6, demonstrations=2)
    return Run(model, str(questions), dtype="float64", device="cpu", settings=settings)
