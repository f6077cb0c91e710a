"""The fingerprint changes with all that a model's answers depend on, and with nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers as T

import gnuq
from gnuq.scoring import fingerprint as module
from gnuq.scoring.errors import CalibrationError, ScoreError
from gnuq.scoring.fingerprint import fingerprint, tokenizer_fingerprint
from tests import tiny

TOKENIZER = tiny.tokenizer()
PROMPTS = [e.prompt for e in tiny.EXAMPLES]
ANSWERS = [e.answer for e in tiny.EXAMPLES]


def score(model: Any, **options: Any) -> gnuq.Scores:
    return gnuq.score(model, TOKENIZER, PROMPTS, ANSWERS, **options)


@pytest.mark.parametrize("name", tiny.ARCHITECTURES)
def test_neither_passes_nor_a_journey_over_the_disk_change_it(name: str, tmp_path: Path) -> None:
    model = tiny.model(name, torch.float32)
    before = fingerprint(model)
    score(model)
    assert fingerprint(model) == before
    model.save_pretrained(tmp_path)
    assert fingerprint(type(model).from_pretrained(tmp_path).eval()) == before
    assert fingerprint(tiny.model(name, torch.float32, seed=1)) != before


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.uint8])
@pytest.mark.parametrize("length", [1, 3, 4, 5, module.ROW - 1, module.ROW, 3 * module.ROW + 7])
def test_every_entry_counts(dtype: torch.dtype, length: int) -> None:
    tensor = torch.arange(length).remainder(100).to(dtype)
    seen = {module._digest(tensor)}
    places = sorted({0, length // 2, length - 1})
    for place in places:
        changed = tensor.clone()
        changed[place] += 1
        seen.add(module._digest(changed))
    assert len(seen) == 1 + len(places)
    assert module._digest(tensor.clone()) == module._digest(tensor)
    apart = torch.stack([tensor, tensor], 1)[:, 0]  # the same entries, not side by side
    assert module._digest(apart) == module._digest(tensor)


def test_honest_changes_that_a_plain_sum_would_miss() -> None:
    """Signs of whole rows, rows that change places, values that move from one to another."""
    weight = torch.randn(64, 512)
    changes: list[Callable[[torch.Tensor], object]] = [
        lambda w: w[3].neg_(),
        lambda w: w.neg_(),
        lambda w: w.copy_(w.flip(0)),
        lambda w: w.copy_(w.roll(1, 1)),
        lambda w: w[0, :2].copy_(w[0, :2].flip(0)),
        lambda w: w[5].sub_(w[5].sum()),
        lambda w: w.bitwise_xor_(1 << 31) if w.dtype == torch.int32 else w.view(torch.int32).neg_(),
    ]
    seen = {module._digest(weight)}
    for change in changes:
        changed = weight.clone()
        change(changed)
        seen.add(module._digest(changed))
    assert len(seen) == 1 + len(changes)


@pytest.mark.parametrize("rows", [1, 5])
def test_a_gpu_would_sum_to_the_same(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    words = torch.randint(-(2**31), 2**31 - 1, (rows, module.ROW), dtype=torch.int32)
    monkeypatch.setattr(module, "BLOCK", 2 * module.ROW)
    assert torch.equal(module._sums_by_blocks(words), module._sums(words))


def test_views_that_begin_within_a_word() -> None:
    whole = torch.arange(9, dtype=torch.int16)
    assert module._digest(whole[1:]) == module._digest(whole[1:].clone())


CHANGES: dict[str, Callable[[Any], object]] = {
    "a weight beyond the first 64": lambda m: m.lm_head.weight.data.view(-1)[-1].mul_(1.5),
    "the same weights in another type": lambda m: m.double(),
    "a setting": lambda m: setattr(m.config, "rms_norm_eps", 0.1),
    "a buffer": lambda m: m.model.register_buffer("extra", torch.ones(2)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_changes_a_model(change: str) -> None:
    model = tiny.model("llama", torch.float32)
    before = fingerprint(model)
    with torch.no_grad():
        CHANGES[change](model)
    assert fingerprint(model) != before


def two_adapters(peft: Any) -> Any:
    """A model with the adapters "default", which is active, and "other"."""
    one = peft.LoraConfig(r=2, target_modules=["q_proj"])
    model = peft.get_peft_model(tiny.model("llama"), one)
    model.add_adapter("other", one)
    return model.eval()


def test_adapters_active_or_not() -> None:
    peft = pytest.importorskip("peft")
    model = two_adapters(peft)
    for name, parameter in model.named_parameters():
        if "lora" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    first = fingerprint(model)
    seen = [first]
    with model.disable_adapter():
        seen.append(fingerprint(model))
    model.set_adapter("other")
    seen.append(fingerprint(model))
    model.set_adapter("default")
    assert fingerprint(model) == first
    for name, layer in model.named_modules():
        if name.endswith("0.self_attn.q_proj"):
            layer.scaling["default"] *= 2
    seen.append(fingerprint(model))
    with torch.no_grad():
        next(p for n, p in model.named_parameters() if "lora_A.other" in n).add_(1)
    seen.append(fingerprint(model))
    assert len(set(seen)) == len(seen)


def test_a_calibration_is_of_one_adapter() -> None:
    peft = pytest.importorskip("peft")
    model = two_adapters(peft)
    calibration = gnuq.calibrate(score(model))
    model.set_adapter("other")
    with pytest.raises(CalibrationError, match="their fingerprint is"):
        calibration.percentile(score(model))


@pytest.mark.parametrize("options", [{"load_in_8bit": True}, {"load_in_4bit": True}])
def test_packed_weights_and_their_scales(options: dict[str, bool], tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    tiny.model("llama", torch.float32).save_pretrained(tmp_path)
    told = T.BitsAndBytesConfig(**options, bnb_4bit_quant_type="nf4")
    model = T.AutoModelForCausalLM.from_pretrained(
        tmp_path, quantization_config=told, device_map={"": "cpu"}
    ).eval()
    seen = [fingerprint(model)]
    score(model)
    assert fingerprint(model) == seen[0]
    layer = model.model.layers[1].mlp.down_proj
    scales = layer.weight.quant_state.absmax if "load_in_4bit" in options else layer.state.SCB
    if scales is None:  # before the first pass
        scales = layer.weight.SCB
    scales[-1] *= 2
    seen.append(fingerprint(model))
    layer.weight.data.view(-1)[-1] += 1
    seen.append(fingerprint(model))
    assert len(set(seen)) == 3


def test_tokenizers() -> None:
    assert tokenizer_fingerprint(tiny.tokenizer()) == tokenizer_fingerprint(TOKENIZER)
    other = tiny.tokenizer()
    other.pad_token = other.eos_token
    assert tokenizer_fingerprint(other) != tokenizer_fingerprint(TOKENIZER)
    assert tokenizer_fingerprint(tiny.tokenizer(False)) != tokenizer_fingerprint(TOKENIZER)


def test_what_is_computed_after_the_score_belongs_to_its_weights() -> None:
    """A trained model is refused, even where `.data` hides the change; what is known stays."""
    model = tiny.model("llama")
    scores, early = score(model), score(model)
    relative = early.relative
    before = scores.by_module()
    model.lm_head.weight.data[-1, -1] += 0.1
    for late in (lambda: scores.by_token(0), lambda: scores.relative, scores.to_frame):
        with pytest.raises(ScoreError, match="have changed since it was scored.*score the answers"):
            late()
    np.testing.assert_array_equal(scores.by_module(), before)
    np.testing.assert_array_equal(early.relative, relative)
    assert score(model).by_token(0).share.sum() == pytest.approx(score(model).epistemic[0])


def test_weights_that_change_between_batches() -> None:
    model = tiny.model("llama")

    def train(done: int, of: int) -> None:
        model.lm_head.weight.data[-1, -1] += 0.1

    with pytest.raises(ScoreError, match="have changed since it was scored"):
        score(model, memory=1e-9, progress=train)
