"""Exported folders: whole or absent, and readable by libraries of both generations."""

from __future__ import annotations

import errno
import json
import os

import pytest
import torch
from safetensors import safe_open
from tiny_checkpoint import assert_untouched, state, tiny_settings

from unlearn.errors import ArtifactError, ConfigError, IncompatibleError, WriteError
from unlearn.models.erasure import Erasure
from unlearn.models.files.export import export
from unlearn.models.guards import Guard
from unlearn.models.sampling import draw

PROMPTS = ["a photo of a cat"]
EDITED = (
    "unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight",
    "text_encoder.encoder.layers.0.mlp.fc1.weight",
)


@pytest.fixture(scope="module")
def erasure(tiny) -> Erasure:
    own = dict(tiny.named_parameters())
    generator = torch.Generator().manual_seed(0)
    return Erasure(
        weights={name: own[name] + torch.randn(own[name].shape, generator=generator) for name in EDITED}
    )


@pytest.fixture(scope="module")
def exported(tiny, erasure, tmp_path_factory):
    before = state(tiny)
    folder = tmp_path_factory.mktemp("export") / "new" / "church-free"
    export(tiny, erasure, folder)
    assert_untouched(tiny, before)
    assert [entry.name for entry in folder.parent.iterdir()] == ["church-free"]
    return folder


def drawn_by_diffusers(folder, lora=None) -> torch.Tensor:
    from diffusers import StableDiffusionPipeline

    pipe = StableDiffusionPipeline.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    if lora:
        pipe.load_lora_weights(lora)
    settings = tiny_settings(folder).sampler
    return pipe(
        PROMPTS,
        num_inference_steps=settings.steps,
        guidance_scale=settings.guidance,
        height=32,
        width=32,
        generator=torch.Generator().manual_seed(3),
        output_type="pt",
    ).images


def drawn(model, erasure: Erasure, folder) -> torch.Tensor:
    with model.erased(erasure):
        return torch.cat(list(draw(model, PROMPTS, [3], tiny_settings(folder).sampler)))


def test_plain_diffusers_draws_the_erased_models_images(tiny, erasure, exported):
    ours = drawn(tiny, erasure, exported)
    assert torch.equal(ours, drawn_by_diffusers(exported))
    assert not torch.allclose(ours, drawn(tiny, Erasure(), exported), atol=1e-3)


def test_a_map_as_a_lora_draws_the_same_images_in_plain_diffusers(tiny, tiny_folder, tmp_path):
    own = dict(tiny.named_parameters())
    names = [name for name in own if name.endswith(("attn2.to_k.weight", "attn2.to_v.weight"))]
    generator = torch.Generator().manual_seed(0)
    change = torch.randn(32, 4, generator=generator) @ torch.randn(4, 32, generator=generator) / 5
    matrix = torch.eye(32, dtype=torch.float64) + change.double()
    mapped = Erasure(weights={name: (own[name].double() @ matrix).float() for name in names}, map=matrix)
    export(tiny, mapped, tmp_path / "lora", as_lora=True)

    ours = drawn(tiny, mapped, tiny_folder)
    assert (drawn_by_diffusers(tiny_folder, tmp_path / "lora") - ours).abs().max() < 1e-4
    assert (drawn_by_diffusers(tiny_folder) - ours).abs().max() > 1e-3
    with safe_open(tmp_path / "lora" / "pytorch_lora_weights.safetensors", "pt") as file:
        ranks = {file.get_slice(key).get_shape()[0] for key in file.keys() if "lora_A" in key}  # noqa: SIM118
        assert ranks == {4}


def test_our_loader_reads_every_weight_back(tiny, erasure, exported):
    settings = tiny_settings(exported)
    assert settings.check() == []
    own = state(settings.load("cpu"))
    expected = state(tiny) | erasure.weights
    assert own.keys() == expected.keys()
    assert all(torch.equal(own[name], expected[name]) for name in own)


def test_an_export_can_be_exported(exported, tmp_path):
    export(tiny_settings(exported).load("cpu"), Erasure(), tmp_path / "again")
    for file in sorted(path.relative_to(exported) for path in exported.rglob("*") if path.is_file()):
        assert (tmp_path / "again" / file).read_bytes() == (exported / file).read_bytes(), file


def test_names_and_files_are_those_that_older_readers_need(exported):
    with safe_open(exported / "text_encoder" / "model.safetensors", "pt") as file:
        assert all(name.startswith("text_model.") for name in file.keys())  # noqa: SIM118 -- no mapping
        assert "text_model.final_layer_norm.weight" in file.keys()  # noqa: SIM118
        assert file.metadata() == {"format": "pt"}
    names = {path.name for path in (exported / "tokenizer").iterdir()}
    assert names >= {"vocab.json", "merges.txt", "special_tokens_map.json", "tokenizer_config.json"}
    assert (
        json.loads((exported / "tokenizer" / "tokenizer_config.json").read_text())["model_max_length"] == 77
    )
    index = json.loads((exported / "model_index.json").read_text())
    assert index["_class_name"] == "StableDiffusionPipeline"
    assert index["text_encoder"] == ["transformers", "CLIPTextModel"]


def test_the_tokenizer_can_be_built_from_the_old_files_alone(tiny, exported, tmp_path):
    from transformers import CLIPTokenizer

    for name in ("vocab.json", "merges.txt", "special_tokens_map.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((exported / "tokenizer" / name).read_bytes())
    prompts = ["A photo of a church, and Van Gogh's!", "", "tench"]
    old = CLIPTokenizer.from_pretrained(tmp_path)
    assert old(prompts)["input_ids"] == tiny.tokenizer(prompts)["input_ids"]


def test_nothing_tells_of_the_machine_it_was_made_on(tiny_folder, exported):
    for file in exported.rglob("*.json"):
        assert str(tiny_folder.parent) not in file.read_text()


def test_a_folder_with_something_in_it_is_left_alone(tiny, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ConfigError, match="exists already"):
        export(tiny, Erasure(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_an_export_that_fails_leaves_nothing(tiny, tmp_path, monkeypatch, error):
    def fail(vae, folder):
        assert vae is tiny.parts["vae"]
        folder.mkdir(parents=True)
        (folder / "config.json").write_text("{")
        raise error

    monkeypatch.setattr(type(tiny.parts["vae"]), "save_pretrained", fail)
    before = state(tiny)
    with pytest.raises(type(error)):
        export(tiny, Erasure(), tmp_path / "new")
    assert list(tmp_path.iterdir()) == []
    assert_untouched(tiny, before)


def test_what_no_folder_can_hold_is_refused(tiny, tmp_path):
    with pytest.raises(IncompatibleError, match=r"while images are drawn.* method=uce, rece or esd"):
        export(tiny, Erasure(guard=Guard()), tmp_path / "new")
    with pytest.raises(ArtifactError, match="not in this model"):
        export(tiny, Erasure(weights={"unet.x": torch.zeros(1)}), tmp_path / "new")
    with pytest.raises(IncompatibleError, match="not one matrix for all projections"):
        export(tiny, Erasure(weights={"unet.x": torch.zeros(1)}), tmp_path / "new", as_lora=True)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_nothing_of_an_export(tiny, erasure, tmp_path, monkeypatch):
    def full(*_arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("unlearn.models.files.export._write_tokenizer", full)
    (tmp_path / "there").mkdir()
    (tmp_path / "notes.txt").write_text("mine")
    for name in ("new", "there"):
        with pytest.raises(WriteError, match=f"^no space left on the device of .*{name}. Make room"):
            export(tiny, erasure, tmp_path / name)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["notes.txt", "there"]
