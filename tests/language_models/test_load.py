"""Models load from a folder as they were saved, quantised as asked, and say what they are."""

from __future__ import annotations

import json
import warnings
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from bitsandbytes import functional as bnb
from bitsandbytes.nn import Linear4bit, Linear8bitLt
from huggingface_hub import constants
from safetensors.torch import save_file
from transformers import DistilBertConfig, DistilBertModel, LlamaForCausalLM

from gnuq.language_models import MODELS, ModelError, device_name, generate, load, quantise
from tests.language_models import tiny


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny.saved(tmp_path_factory.mktemp("tiny"))


def linears(model: torch.nn.Module) -> dict[str, Linear4bit]:
    return {name: one for name, one in model.named_modules() if isinstance(one, Linear4bit)}


def test_a_folder_loads_as_it_was_saved(folder: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded = load(folder, device="cpu")
    assert (loaded.name, loaded.revision, loaded.quantisation) == (folder, None, None)
    assert (loaded.dtype, loaded.entry) == ("float32", None)
    assert not loaded.model.training
    expected = tiny.llama(dtype=torch.float32).state_dict()
    for name, value in loaded.model.state_dict().items():
        assert torch.equal(value, expected[name])
    assert all(parameter.requires_grad for parameter in loaded.model.parameters())
    assert loaded.tokenizer("a.\n")["input_ids"] == tiny.tokenizer()("a.\n")["input_ids"]
    assert len(generate(loaded, loaded.tokenizer, ["a"], max_new_tokens=4)) == 1


def test_a_device_is_named_as_provenance_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert device_name("cpu") == "cpu"
    with pytest.raises(ValueError, match=r"device: there is no cuda:7 here"):
        device_name("cuda:7")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda place: f"a GPU at {place}")
    assert [device_name(one) for one in (None, "auto", "cuda:0")] == [
        "a GPU at cuda",
        "a GPU at cuda",
        "a GPU at cuda:0",
    ]


@pytest.mark.parametrize("dtype", ["float64", "bfloat16", torch.float16])
def test_the_dtype_can_be_chosen(folder: str, dtype: str | torch.dtype) -> None:
    loaded = load(folder, dtype=dtype, device="cpu")
    assert loaded.dtype == str(dtype).removeprefix("torch.")
    assert {str(p.dtype) for p in loaded.model.parameters()} == {f"torch.{loaded.dtype}"}


@pytest.mark.parametrize("how", ["nf4", "fp4"])
def test_four_bits_and_their_gradients_after_a_forward_pass_without(folder: str, how: str) -> None:
    """The gradient is that of the dequantised weights, although a pass without came first.

    On processors with AVX512-BF16 that pass would have rearranged the weights.
    """
    loaded = load(folder, quantisation=how, device="cpu")
    layers = linears(loaded.model)
    assert len(layers) == 14  # four of the attention and three of the MLP, in two layers
    assert {layer.weight.quant_type for layer in layers.values()} == {how}
    assert {layer.compute_dtype for layer in layers.values()} == {torch.float32}
    assert not any(layer.weight.quant_state.nested for layer in layers.values())
    assert not any(layer.support_avx512bf16_for_cpu for layer in layers.values())
    assert (loaded.quantisation, loaded.dtype) == (how, "float32")

    ids = torch.arange(2, 30)[None]
    with torch.no_grad():
        loaded.model(ids)
    assert torch.allclose(
        gradient(loaded.model, ids), gradient(dense(loaded.model), ids), rtol=1e-4
    )


def dense(model: LlamaForCausalLM) -> LlamaForCausalLM:
    """The same model with ordinary linear layers, holding the dequantised weights."""
    made = tiny.llama(dtype=torch.float32)
    values = {k: v for k, v in model.state_dict().items() if "proj" not in k}
    for name, layer in linears(model).items():
        state = layer.weight.quant_state
        values[f"{name}.weight"] = bnb.dequantize_4bit(layer.weight.data, state)
    made.load_state_dict(values)
    return made


def gradient(model: LlamaForCausalLM, ids: torch.Tensor) -> torch.Tensor:
    weight = model.get_input_embeddings().weight
    loss = model(ids).logits[0, -1].log_softmax(-1)[5]
    return torch.autograd.grad(loss, weight)[0]


def test_eight_bits(folder: str) -> None:
    loaded = load(folder, quantisation="int8", device="cpu")
    kinds = [type(m) for m in loaded.model.modules() if "Linear" in type(m).__name__]
    assert kinds.count(Linear8bitLt) == 14
    assert loaded.quantisation == "int8"


def test_a_checkpoint_that_is_quantised_already_stays_as_it_is(folder: str, tmp_path: Path) -> None:
    first = load(folder, quantisation="nf4", device="cpu")
    place = tiny.saved(tmp_path, first.model)
    again = load(place, device="cpu")
    assert again.quantisation == "nf4"
    assert not any(layer.support_avx512bf16_for_cpu for layer in linears(again.model).values())
    ids = torch.arange(2, 30)[None]
    with torch.no_grad():
        assert torch.equal(first.model(ids).logits, again.model(ids).logits)
    with pytest.raises(ModelError, match=r"quantised already \(nf4\)"):
        load(place, quantisation="int8")


def test_an_encoder_loads_without_a_head(tmp_path: Path) -> None:
    config = DistilBertConfig(vocab_size=259, dim=32, hidden_dim=64, n_layers=1, n_heads=2)
    loaded = load(tiny.saved(tmp_path, DistilBertModel(config).to(torch.float32)), device="cpu")
    assert isinstance(loaded.model, DistilBertModel)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The hub's cache on this machine, and no network."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


def downloaded(hub: Path, repository: str, commit: str, *, seed: int, main: bool = False) -> None:
    """A tiny model in the cache, as if that commit of the repository had been downloaded."""
    place = hub / f"models--{repository.replace('/', '--')}"
    tiny.saved(place / "snapshots" / commit, tiny.llama(seed, torch.float32))
    if main:
        (place / "refs").mkdir()
        (place / "refs" / "main").write_text(commit)


def weight(model: torch.nn.Module) -> torch.Tensor:
    return model.get_input_embeddings().weight  # type: ignore[operator,union-attr]


def test_an_unpinned_repository_tells_its_commit(hub: Path) -> None:
    downloaded(hub, "someone/model", "a" * 40, seed=1)
    downloaded(hub, "someone/model", "b" * 40, seed=2, main=True)
    with pytest.warns(UserWarning, match=f"not pinned; this is {'b' * 40}. Pass revision='b"):
        newest = load("someone/model", device="cpu")
    assert (newest.name, newest.revision, newest.entry) == ("someone/model", "b" * 40, None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        older = load("someone/model", revision="a" * 40, device="cpu")
    assert older.revision == "a" * 40
    assert torch.equal(weight(newest.model), weight(tiny.llama(2, torch.float32)))
    assert torch.equal(weight(older.model), weight(tiny.llama(1, torch.float32)))


def test_the_registrys_revision_is_loaded_unless_another_is_named(hub: Path) -> None:
    entry = MODELS["olmo-1b"]
    assert entry.revision is not None
    downloaded(hub, entry.repository, entry.revision, seed=1)
    downloaded(hub, entry.repository, "b" * 40, seed=2, main=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pinned = load("olmo-1b", quantisation="none", device="cpu")
        other = load("allenai/OLMo-1B-hf", revision="b" * 40, device="cpu")
    assert (pinned.name, pinned.revision, pinned.quantisation, pinned.entry) == (
        "olmo-1b", entry.revision, None, entry,
    )  # fmt: skip
    assert (other.name, other.revision, other.quantisation) == ("olmo-1b", "b" * 40, "nf4")
    assert torch.equal(weight(pinned.model), weight(tiny.llama(1, torch.float32)))
    assert torch.equal(weight(other.model), weight(tiny.llama(2, torch.float32)))


def test_awq_is_told_from_the_checkpoint(folder: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="not quantised with AWQ"):
        load(folder, quantisation="awq", device="cpu")
    place = awq(tmp_path)
    with pytest.raises(ModelError, match=r"quantised already \(awq\)"):
        load(place, quantisation="nf4", device="cpu")
    if find_spec("gptqmodel") is None:
        with pytest.raises(ModelError, match="gptqmodel is missing; run: pip install gptqmodel"):
            load(place, device="cpu")
        return
    loaded = load(place, device="cpu")
    assert (loaded.quantisation, loaded.dtype) == ("awq", "float16")
    kind = type(loaded.model.model.layers[0].mlp.up_proj)
    assert kind.__name__ == "AwqTorchLinear"


def awq(folder: Path, group: int = 32) -> str:
    """A checkpoint in AWQ's layout, with random codes."""
    model = tiny.llama(0, torch.float16, hidden_size=128, intermediate_size=256)
    place = Path(tiny.saved(folder, model))
    codes, state = torch.iinfo(torch.int32), {}
    for name, value in model.state_dict().items():
        if "proj" not in name:
            state[name] = value.contiguous()
            continue
        rows, columns = value.shape
        for kind, height in (("qweight", columns), ("qzeros", columns // group)):
            shape = (height, rows // 8)
            packed = torch.randint(codes.min, codes.max, shape, dtype=torch.int32)
            state[name.replace("weight", kind)] = packed
        state[name.replace("weight", "scales")] = 0.02 * torch.rand(columns // group, rows).half()
    save_file(state, place / "model.safetensors", metadata={"format": "pt"})
    told = json.loads((place / "config.json").read_text())
    how = {"quant_method": "awq", "bits": 4, "group_size": group, "zero_point": True}
    (place / "config.json").write_text(json.dumps(told | {"quantization_config": how}))
    return str(place)


def test_a_model_that_is_not_quantised_as_it_should_be_is_refused(folder: str) -> None:
    """transformers leaves out, without an error, what it cannot tell from the configuration."""
    with pytest.raises(ModelError, match="tiny: transformers gave it no quantised layers"):
        quantise.verified("tiny", "nf4", tiny.llama())


def test_layers_without_a_backward_pass_are_refused(
    folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_gradient(self: Linear4bit, x: torch.Tensor) -> torch.Tensor:
        return x.detach() @ torch.ones(self.in_features, self.out_features)

    monkeypatch.setattr(Linear4bit, "forward", no_gradient)
    with pytest.raises(ModelError, match="14 quantised layers give no gradient to rely on"):
        load(folder, quantisation="nf4", device="cpu")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"quantisation": "q4"}, "quantisation: 'q4' is none of awq, nf4"),
        ({"dtype": "int4"}, "dtype: 'int4' is none of float64"),
        ({"revision": "main"}, "revision: .* is a folder"),
    ],
)
def test_settings_that_do_not_exist(folder: str, settings: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load(folder, **settings)  # type: ignore[arg-type]


def test_a_name_that_is_nothing() -> None:
    with pytest.raises(ValueError, match="name: no model 'gpt-9'. Choose one of smollm2-135m"):
        load("gpt-9")
    with pytest.raises(ValueError, match="or an existing folder"):
        load("./no/such/folder")


def test_a_folder_in_a_repositorys_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "microsoft/phi-4").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"pass './microsoft/phi-4' to mean the folder"):
        load("phi-4")
