"""Checkpoints that cannot be loaded: each is told in one line, before a weight is read where possible."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from tiny_checkpoint import tiny_settings

from unlearn.errors import ConfigError

UNET = "unet/diffusion_pytorch_model.safetensors"
TEXT = "text_encoder/model.safetensors"


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])


def change(file: Path, **values) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def as_pickle(file: Path) -> None:
    file.rename(file.with_suffix(".bin"))


@pytest.fixture
def copy(tiny_folder, tmp_path) -> Path:
    return shutil.copytree(tiny_folder, tmp_path / "copy")


def test_a_whole_checkpoint_has_no_problems(tiny_folder):
    assert tiny_settings(tiny_folder).check() == []


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "model_index.json").unlink(), "has no model_index.json"),
        (lambda f: (f / "model_index.json").write_text("{"), "model_index.json cannot be read as JSON"),
        (
            lambda f: change(f / "model_index.json", _class_name="FluxPipeline"),
            "is a FluxPipeline, this model family needs StableDiffusionPipeline",
        ),
        (lambda f: (f / UNET).unlink(), f"{UNET} is missing"),
        (lambda f: as_pickle(f / TEXT), "model.bin is a pickle, which can run code"),
        (lambda f: cut(f / UNET), "bytes long where its header says"),
        (lambda f: (f / UNET).write_bytes(b""), "damaged or only half written"),
        (lambda f: (f / UNET).write_bytes(b"\0" * 4000), "damaged or only half written"),
        (lambda f: (f / UNET).write_bytes(b"\xff" * 4000), "damaged or only half written"),
        (lambda f: (f / "vae/config.json").unlink(), "vae/config.json is missing"),
        (lambda f: (f / "scheduler/scheduler_config.json").write_text("[]"), "holds no JSON object"),
        (lambda f: (f / "tokenizer/merges.txt").unlink(), "neither tokenizer.json nor vocab.json"),
    ],
)
def test_damage_is_found_without_loading(copy, damage, message):
    damage(copy)
    (problem,) = tiny_settings(copy).check()
    assert problem.startswith("source: ")
    assert message in problem
    with pytest.raises(ConfigError) as caught:
        tiny_settings(copy).load("cpu")
    assert str(caught.value) == f"model.{problem}"


def headed(header: str, data: bytes = b"\0" * 8) -> bytes:
    return len(header).to_bytes(8, "little") + header.encode() + data


def placed(*places: tuple[int, int], shape: str = "[1]", dtype: str = '"F32"') -> bytes:
    entries = (
        f'"{name}": {{"dtype": {dtype}, "shape": {shape}, "data_offsets": [{first}, {last}]}}'
        for name, (first, last) in zip("abc", places, strict=False)
    )
    return headed(f"{{{', '.join(entries)}}}")


HEADERS = {
    "nested too deeply": headed('{"a": ' + "[" * 100_000 + "]" * 100_000 + "}"),
    "an overlap": placed((0, 4), (0, 4), (4, 8)),
    "a gap": placed((0, 4), (8, 12)),
    "negative offsets": placed((-4, 0), (0, 4), (4, 8)),
    "offsets out of order": placed((4, 0), (4, 8)),
    "another length than the shape's": placed((0, 8), shape="[1]"),
    "a shape of no numbers": placed((0, 8), shape='["2"]'),
    "a dtype of no name": placed((0, 4), (4, 8), dtype="4"),
    "offsets that are no numbers": placed(("true", 4), (4, 8)),
    "infinite offsets": placed((0, "1e400")),
    "a name twice": headed('{"a": {"dtype": "U8", "shape": [8], "data_offsets": [0, 8]}, "a": 1}'),
    "a huge length": (2**62).to_bytes(8, "little") + b"{}",
    "a length beyond the file": (5000).to_bytes(8, "little") + b"{}",
    "bytes that are no text": (4).to_bytes(8, "little") + b"\xff\xfe{}",
    "no tensor": headed("{}", b""),
    "a list": headed("[1]", b""),
}


@pytest.mark.parametrize("content", HEADERS.values(), ids=HEADERS)
def test_a_header_that_lies_is_told_in_a_line(copy, content):
    (copy / UNET).write_bytes(content)
    (problem,) = tiny_settings(copy).check()
    assert problem.startswith(f"source: {copy / UNET} is damaged or only half written (")
    assert "\n" not in problem
    assert len(problem) < 400


@pytest.mark.parametrize(
    "name", ["../x.safetensors", "/etc/passwd", "a/../../x", "..", "", "C:\\\\x", "sub/x"]
)
def test_shards_outside_their_folder_are_refused(copy, name):
    index = (copy / UNET).with_name(f"{Path(UNET).name}.index.json")
    (copy / UNET).unlink()
    index.write_text(json.dumps({"weight_map": {"a": name}}))
    (problem,) = tiny_settings(copy).check()
    assert problem.startswith(f"source: {index}: weight_map: must name files beside it, got '")


@pytest.mark.parametrize("content", ['{"weight_map": ["a"]}', '{"weight_map": {"a": 1}}', "{}", "[" * 99_999])
def test_an_index_of_shards_that_is_none_is_told(copy, content):
    (copy / UNET).unlink()
    (copy / UNET).with_name(f"{Path(UNET).name}.index.json").write_text(content)
    (problem,) = tiny_settings(copy).check()
    assert "index.json" in problem


def test_a_shard_may_be_a_link_as_in_the_hubs_cache(copy, tmp_path):
    whole = copy / UNET
    whole.rename(tmp_path / "blob")
    whole.with_name("x.safetensors").symlink_to(tmp_path / "blob")
    whole.with_name(f"{whole.name}.index.json").write_text(json.dumps({"weight_map": {"a": "x.safetensors"}}))
    assert tiny_settings(copy).check() == []


@pytest.mark.parametrize(
    ("file", "key", "value"),
    [
        ("model_index.json", "_class_name", ["StableDiffusionPipeline"]),
        ("model_index.json", "_class_name", None),
        ("unet/config.json", "in_channels", "4"),
        ("vae/config.json", "scaling_factor", "x"),
        ("vae/config.json", "block_out_channels", 4),
        ("text_encoder/config.json", "max_position_embeddings", [77]),
        ("scheduler/scheduler_config.json", "num_train_timesteps", "many"),
        ("scheduler/scheduler_config.json", "beta_start", {"a": 1}),
        ("scheduler/scheduler_config.json", "prediction_type", ["epsilon"]),
    ],
)
def test_values_of_another_type_are_told_with_their_key(copy, file, key, value):
    change(copy / file, **{key: value})
    (problem,) = tiny_settings(copy).check()
    assert problem.startswith(f"source: {copy / file}: {key}: must be ")


@pytest.mark.parametrize(
    ("file", "key", "value"),
    [
        ("unet/config.json", "block_out_channels", 4),
        ("unet/config.json", "down_block_types", [1]),
        ("vae/config.json", "latent_channels", {}),
        ("text_encoder/config.json", "hidden_size", "x"),
        ("scheduler/scheduler_config.json", "beta_schedule", "none"),
        ("scheduler/scheduler_config.json", "num_train_timesteps", -3),
        ("scheduler/scheduler_config.json", "trained_betas", {"a": 1}),
    ],
)
def test_what_only_loading_can_tell_is_told_in_a_line(copy, file, key, value):
    change(copy / file, **{key: value})
    with pytest.raises(ConfigError, match=r"^(model\.)?source: .*") as caught:
        tiny_settings(copy).load("cpu")
    assert "\n" not in str(caught.value)


def test_all_damage_is_told_at_once(copy):
    cut(copy / UNET)
    cut(copy / TEXT)
    assert len(tiny_settings(copy).check()) == 2


def test_weights_that_are_missing_from_a_file_are_not_made_up(copy):
    for file in (copy / UNET, copy / TEXT):
        whole = file.read_bytes()
        weights = load_file(file)
        name = sorted(weights)[0]
        save_file(
            {key: value for key, value in weights.items() if key != name}, file, metadata={"format": "pt"}
        )
        with pytest.raises(ConfigError, match="lacks 1 weights"):
            tiny_settings(copy).load("cpu")
        file.write_bytes(whole)


def test_weights_of_another_size_are_refused(copy):
    change(copy / "unet/config.json", cross_attention_dim=48)
    with pytest.raises(ConfigError, match="unet cannot be loaded as UNet2DConditionModel"):
        tiny_settings(copy).load("cpu")


def test_a_prediction_type_that_we_do_not_know_is_refused(copy):
    change(copy / "scheduler/scheduler_config.json", prediction_type="sample")
    with pytest.raises(ConfigError, match="Unknown prediction type 'sample'"):
        tiny_settings(copy).load("cpu")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("/no/such/folder", "there is no folder '/no/such/folder'"),
        ("./models", "there is no folder './models'"),
        ("models", "there is no folder 'models'"),
        ("package:../errors", "no model '../errors' ships with this package"),
        ("package:pokcet", "no model 'pokcet' ships with this package"),
        (__file__, "needs a folder in diffusers' format, got the file"),
    ],
)
def test_a_source_that_is_not_there(source, message, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (problem,) = tiny_settings(source).check()
    assert message in problem


def test_a_hub_id_without_hub_is_told_at_once_and_nothing_is_sent(monkeypatch, tmp_path):
    from huggingface_hub import HfApi, constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(HfApi, "model_info", None)  # a call would fail
    (problem,) = tiny_settings("owner/name").check()
    assert "is not in the hub's cache, and the hub is switched off" in problem
    assert "model=pocket" in problem


def test_a_hub_that_does_not_answer_is_told(monkeypatch, tmp_path):
    from huggingface_hub import HfApi, constants

    def refuse(*asked, revision, timeout):
        assert asked[1:] == ("owner/name",)
        assert revision is None
        assert timeout <= 10
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(HfApi, "model_info", refuse)
    with pytest.raises(ConfigError, match=r"model.source: 'owner/name' is not in .* \(no route to host\)"):
        tiny_settings("owner/name").load("cpu")


def test_a_cached_hub_id_is_loaded_without_asking_the_hub(tiny_folder, monkeypatch, tmp_path):
    from huggingface_hub import HfApi, constants

    commit = "0" * 40
    repository = tmp_path / "models--owner--name"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    (repository / "snapshots").mkdir()
    (repository / "snapshots" / commit).symlink_to(tiny_folder)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(HfApi, "model_info", None)  # a call would fail
    settings = tiny_settings("owner/name")
    assert settings.check() == []
    assert settings.load("cpu").max_tokens == 77


def test_weights_in_shards_are_checked_one_by_one(copy):
    weights = load_file(copy / TEXT)
    names = sorted(weights)
    files = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for file, keys in files.items():
        save_file(
            {key: weights[key] for key in keys}, copy / "text_encoder" / file, metadata={"format": "pt"}
        )
    table = {key: file for file, keys in files.items() for key in keys}
    (copy / "text_encoder/model.safetensors.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": table})
    )
    (copy / TEXT).unlink()
    assert tiny_settings(copy).check() == []
    assert tiny_settings(copy).load("cpu").max_tokens == 77
    cut(copy / "text_encoder/model-00002-of-00002.safetensors")
    (problem,) = tiny_settings(copy).check()
    assert "model-00002-of-00002.safetensors is" in problem


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_every_part_has_the_dtype_that_was_asked_for(tiny_folder, dtype):
    settings = tiny_settings(tiny_folder)
    settings.dtype = dtype
    assert {str(p.dtype) for _, p in settings.load("cpu").named_parameters()} == {f"torch.{dtype}"}


def test_an_unknown_dtype_is_refused(tiny_folder):
    settings = vars(tiny_settings(tiny_folder)) | {"dtype": "float8"}
    with pytest.raises(ValueError, match=r"dtype: Unknown dtype 'float8'\. Did you mean 'float"):
        type(tiny_settings(tiny_folder))(**settings)
