"""No stale result: what an artifact's name must follow, and what it must not."""

import importlib.metadata
import json
import shutil
import struct
from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
import torch
from installed import pretending
from tiny_checkpoint import tiny_settings

import unlearn
from unlearn.attacks.replay import Replay
from unlearn.concepts.concept import Concept, ConceptSet, PromptSet
from unlearn.concepts.images import ImageRequest, ImageSet
from unlearn.detectors.detector import Detector
from unlearn.detectors.inception import Inception
from unlearn.detectors.nudenet import NudeNet
from unlearn.detectors.openclip import OpenClip
from unlearn.errors import ArtifactError, ConfigError
from unlearn.methods.closed_form.uce import UCE
from unlearn.models.erasure import Erasure
from unlearn.models.files import source as sources
from unlearn.pipeline.attacking import search, tried
from unlearn.pipeline.judging import Judging
from unlearn.pipeline.original import Source
from unlearn.pipeline.scoring import score
from unlearn.store.artifacts import Store, fingerprint

CHURCH = Concept(
    kind="object", phrases=["church"], anchor="house", retain=["dog"], prompts=None, detector="judge",
    labels=["church"],
)  # fmt: skip
PROMPTS = PromptSet("plain", ("a church", "one church"), (1, 2), ("church",) * 2, ("church",) * 2)


def source_of(folder, tmp_path, device="cpu", **changes):
    return Source(replace(tiny_settings(folder), **changes), device, Store(tmp_path / "store"))


def identity(folder, tmp_path, **changes):
    """The fingerprint of all that a model's predictions depend on, as a fresh process would see it."""
    return fingerprint(source_of(folder, tmp_path, **changes).identity())


@pytest.fixture
def checkpoint(tiny_folder, tmp_path):
    return shutil.copytree(tiny_folder, tmp_path / "model")


def flip(path, offset):
    content = bytearray(path.read_bytes())
    content[offset] ^= 1
    path.write_bytes(content)


LOADED = (
    "scheduler/scheduler_config.json",
    "text_encoder/config.json",
    "text_encoder/model.safetensors",
    "tokenizer/merges.txt",
    "tokenizer/special_tokens_map.json",
    "tokenizer/tokenizer_config.json",
    "tokenizer/vocab.json",
    "unet/config.json",
    "unet/diffusion_pytorch_model.safetensors",
    "vae/config.json",
    "vae/diffusion_pytorch_model.safetensors",
)


@pytest.mark.parametrize("name", LOADED)
def test_any_byte_of_any_file_that_is_loaded_counts(checkpoint, tmp_path, monkeypatch, name):
    path = checkpoint / name
    size = path.stat().st_size
    monkeypatch.setattr(sources, "problems", lambda *_: [])  # a flipped byte may also be found to be wrong
    first = identity(checkpoint, tmp_path)
    assert identity(checkpoint, tmp_path) == first
    # Behind the first piece of 4 KiB in each 64th, too, which is all that was once looked at.
    between = min(size - 1, max(size // 64, 4096) - 1)
    for offset in {0, size - 1, size // 2, between, size * 2 // 3}:
        flip(path, offset)
        assert identity(checkpoint, tmp_path) != first, offset
        flip(path, offset)
    assert identity(checkpoint, tmp_path) == first


def test_a_checkpoint_with_one_projection_edited_is_another_model(checkpoint, tmp_path):
    from safetensors.torch import load_file, save_file

    first = identity(checkpoint, tmp_path)
    path = checkpoint / "unet" / "diffusion_pytorch_model.safetensors"
    weights = load_file(path)
    name = next(name for name in sorted(weights) if name.endswith("attn2.to_v.weight"))
    weights[name][0, 0] += 1e-3
    save_file(weights, path, metadata={"format": "pt"})
    assert identity(checkpoint, tmp_path) != first


@pytest.mark.parametrize(
    "name",
    [
        "README.md", ".DS_Store", "unet/.DS_Store", "unet/._config.json", "vae/Thumbs.db", "unet/notes.md",
        "unet/diffusion_pytorch_model.bin", "unet/diffusion_pytorch_model.fp16.safetensors",
        "safety_checker/model.safetensors", "feature_extractor/preprocessor_config.json",
    ],
)  # fmt: skip
def test_a_file_that_is_never_read_makes_no_other_model(checkpoint, tmp_path, name):
    first = identity(checkpoint, tmp_path)
    (checkpoint / name).parent.mkdir(exist_ok=True)
    (checkpoint / name).write_text("anything")
    assert identity(checkpoint, tmp_path) == first


def test_every_file_that_loading_opens_is_among_those_that_count(checkpoint, monkeypatch):
    opened = set()
    for module, name in (("builtins", "open"), ("pathlib.Path", "open")):
        _watch(monkeypatch, module, name, opened)
    settings = tiny_settings(checkpoint)
    known = {str(path) for path in settings.files().values()}
    settings.load("cpu")
    inside = {path for path in opened if path.startswith(str(checkpoint))}
    assert inside
    assert inside <= known
    assert {str(path) for path in checkpoint.rglob("*") if path.is_file()} == known


def _watch(monkeypatch, module, name, opened):
    owner = __import__("builtins") if module == "builtins" else __import__("pathlib").Path
    real = getattr(owner, name)

    def watched(file, *arguments, **named):
        opened.add(str(file))
        return real(file, *arguments, **named)

    monkeypatch.setattr(owner, name, watched)


def test_shards_count_whatever_the_index_calls_them(checkpoint, tmp_path):
    unet = checkpoint / "unet"
    (unet / "diffusion_pytorch_model.safetensors").rename(unet / "one")
    (unet / "diffusion_pytorch_model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {"conv_in.weight": "one"}})
    )
    first = identity(checkpoint, tmp_path)
    flip(unet / "one", -1)
    assert identity(checkpoint, tmp_path) != first


def test_the_kind_of_device_and_the_precision_count(tiny_folder, tmp_path):
    first = identity(tiny_folder, tmp_path)
    assert identity(tiny_folder, tmp_path, device="cuda:0") != first
    assert identity(tiny_folder, tmp_path, device="cuda:0") == identity(
        tiny_folder, tmp_path, device="cuda:3"
    )
    assert identity(tiny_folder, tmp_path, dtype="float16") != first


@pytest.mark.parametrize("library", ["torch", "diffusers", "transformers"])
def test_the_versions_of_the_libraries_that_draw_count(tiny_folder, tmp_path, monkeypatch, library):
    first, real = identity(tiny_folder, tmp_path), importlib.metadata.version
    versions = {}
    monkeypatch.setattr("unlearn.store.environment.version", lambda name: versions.get(name) or real(name))
    major, minor, *_ = real(library).split(".")
    versions[library] = f"{major}.{minor}.99"
    assert identity(tiny_folder, tmp_path) == first
    versions[library] = f"{major}.{int(minor) + 1}.0"
    assert identity(tiny_folder, tmp_path) != first
    versions = {"open_clip_torch": "99.0", "onnxruntime": "99.0"}
    assert identity(tiny_folder, tmp_path) == first


def test_a_model_that_changes_between_its_fingerprint_and_its_loading_is_refused(checkpoint, tmp_path):
    source = source_of(checkpoint, tmp_path)
    source.identity()
    text = checkpoint / "unet" / "config.json"
    text.write_text(text.read_text() + "\n")
    with pytest.raises(ArtifactError, match=r"model\.source: the files in .* have changed"):
        source()


def test_a_checkpoint_that_is_half_fetched_is_fetched_before_it_is_named(checkpoint, tmp_path, monkeypatch):
    half = shutil.copytree(checkpoint, tmp_path / "half", ignore=shutil.ignore_patterns("vae"))
    monkeypatch.setattr(sources, "locate", lambda *_: half)
    monkeypatch.setattr(sources, "reachable", lambda *_: [])
    monkeypatch.setattr(sources, "download", lambda *_: checkpoint)
    assert identity("owner/name", tmp_path) == identity_of_whole(monkeypatch, checkpoint, tmp_path)


def identity_of_whole(monkeypatch, checkpoint, tmp_path):
    monkeypatch.setattr(sources, "locate", lambda *_: checkpoint)
    return identity("owner/name", tmp_path)


@dataclass(kw_only=True)
class Judge(Detector):
    """Reads a weight from a file."""

    labels: ClassVar = ("church",)

    file: object

    @property
    def files(self):
        return [self.file]

    def scores(self, images):
        (weight,) = struct.unpack("<d", self.file.read_bytes())
        return images.mean(dim=(1, 2, 3))[:, None].double() * 0 + weight


def weights(path, value):
    path.write_bytes(struct.pack("<d", value))
    return path


def scored(tmp_path, judge, prompts=PROMPTS, **more):
    from unlearn.metrics.detection import DetectionRate

    metrics = {"erased": DetectionRate(role="plain", known_from=0)}
    images = {}
    for model in ("erased", "original"):
        folder = tmp_path / "store" / "images" / model
        folder.mkdir(parents=True, exist_ok=True)
        for index in range(len(prompts)):
            from unlearn.concepts.images import image_name, write_image

            write_image(folder / image_name(index), torch.rand(3, 8, 8))
        images[ImageRequest("plain", model)] = ImageSet(ImageRequest("plain", model), prompts, folder)
    judging = Judging(ConceptSet(erase={"church": CHURCH}), {"judge": judge, **more})
    return score(metrics, images, {}, judging, Store(tmp_path / "store"))


def test_a_score_follows_the_weights_of_its_judge(tmp_path):
    first = scored(tmp_path, Judge(file=weights(tmp_path / "judge", 0.9)))
    assert first.scores["erased"]["value"] == 100
    again = scored(tmp_path, Judge(file=weights(tmp_path / "judge", 0.9)))
    assert again.folder == first.folder
    other = scored(tmp_path, Judge(file=weights(tmp_path / "judge", 0.1)))
    assert other.folder != first.folder
    assert other.scores["erased"]["value"] == 0


def test_a_score_does_not_follow_a_judge_that_nothing_asks(tmp_path):
    judge, idle = Judge(file=weights(tmp_path / "judge", 0.9)), Judge(file=weights(tmp_path / "idle", 0.9))
    first = scored(tmp_path, judge, idle=idle)
    weights(tmp_path / "idle", 0.1)
    assert scored(tmp_path, judge, idle=idle).folder == first.folder


def test_a_score_follows_what_its_prompts_belong_to(tmp_path):
    judge = Judge(file=weights(tmp_path / "judge", 0.9))
    first = scored(tmp_path, judge)
    shown = replace(PROMPTS, shows=("church", ""))
    belonging = replace(PROMPTS, concepts=("church", "chapel"))
    assert scored(tmp_path, judge, shown).folder != first.folder
    assert scored(tmp_path, judge, belonging).folder != first.folder


def test_a_judge_that_cannot_be_read_is_said(tmp_path):
    with pytest.raises(ConfigError, match=r"eval\.detectors\.judge: .*gone cannot be read"):
        scored(tmp_path, Judge(file=tmp_path / "gone"))


def nudenet(path):
    return NudeNet(weights=str(path), threshold=0.5)


def openclip(path):
    return OpenClip(
        architecture="ViT-B-32", weights=str(path), others=[], template="{}", threshold=0.5, statistics=None,
        device="cpu",
    )  # fmt: skip


def statistics(path):
    return replace(openclip(path.with_suffix(".pt")), statistics=str(path))


def inception(path):
    return Inception(weights=str(path), statistics=None, device="cpu")


@pytest.mark.parametrize("network", [nudenet, openclip, statistics, inception])
def test_each_network_names_the_files_that_it_reads(tmp_path, monkeypatch, network):
    pretending(monkeypatch, "onnxruntime", "nudenet", "torch_fidelity")
    path = tmp_path / "weights.pt"
    path.write_bytes(b"one")
    assert path in network(path).files


def test_the_packaged_networks_name_all_that_is_packaged_with_them():
    config = unlearn.configure("method=none", "concept=church", "eval=quick", "device=cpu")
    named = {
        key: {f"{path.parent.name}/{path.name}" for path in config.eval.detectors[key].files}
        for key in ("pocket_judge", "pocket_clip")
    }
    assert named["pocket_judge"] == {"judge/heads_2.json", "judge/judge_2.safetensors", "judge/card_2.json"}
    assert named["pocket_clip"] == {
        "clip/clip.safetensors", "clip/config.json", "clip/reference.safetensors", "tokenizer/merges.txt",
        "tokenizer/special_tokens_map.json", "tokenizer/tokenizer.json", "tokenizer/tokenizer_config.json",
        "tokenizer/vocab.json",
    }  # fmt: skip


def test_weights_by_tag_are_known_by_the_file_that_they_are(tmp_path, monkeypatch):
    import open_clip

    fetched = tmp_path / "open_clip_model.safetensors"
    monkeypatch.setattr(open_clip, "download_pretrained", lambda _: str(fetched))
    assert replace(openclip("x.pt"), weights="laion2b_s34b_b79k").files == [fetched]


def test_an_attack_is_made_again_where_its_prompts_say_something_else(tmp_path):
    (tmp_path / "prompts.csv").write_text("prompt\none\ntwo\n")
    method, store = Replay(prompts=2, file=str(tmp_path / "prompts.csv")), Store(tmp_path / "store")

    def attack(plain):
        from unlearn.attacks.attack import Target

        target = Target(None, Erasure(), ConceptSet(erase={"church": CHURCH}), {}, None)
        return search(tried("replay", method, plain, 0), lambda: target, {}, store)[0].prompts

    assert attack(PROMPTS).shows == ("church", "church")
    assert attack(replace(PROMPTS, shows=("church", "house"))).shows == ("church", "house")
    (tmp_path / "prompts.csv").write_text("prompt\none\ntoo\n")
    assert attack(PROMPTS).prompts == ("one", "too")


def test_unfinished_work_is_for_one_model(tiny_folder, tmp_path):
    model = tiny_settings(tiny_folder).load("cpu")
    config = unlearn.configure("method=uce", "concept=church", f"model.source={tiny_folder}", "device=cpu")
    assert isinstance(config.method, UCE)
    unlearn.erase(model, config.method, config.concepts, scratch=tmp_path / "scratch")
    weight = next(model.parts["vae"].parameters())
    weight.data[0] += 1
    with pytest.raises(ConfigError, match="other settings: model"):
        unlearn.erase(model, config.method, config.concepts, scratch=tmp_path / "scratch")
    weight.data[0] -= 1


def test_unfinished_work_goes_on_from_one_erasure(tiny_folder, tmp_path):
    model = tiny_settings(tiny_folder).load("cpu")
    config = unlearn.configure("method=uce", "concept=church", f"model.source={tiny_folder}", "device=cpu")
    name = next(name for name, _ in model.named_parameters() if "attn2.to_k" in name)
    own = dict(model.named_parameters())[name].detach()

    def erase(scale):
        before = Erasure(weights={name: own * scale})
        unlearn.erase(model, config.method, config.concepts, before=before, scratch=tmp_path / "scratch")

    erase(1.5)
    erase(1.5)
    with pytest.raises(ConfigError, match="other settings: after"):
        erase(1.6)
