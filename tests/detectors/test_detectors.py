"""Detectors without their weights: decisions, and what is said when something is missing."""

import json
import sys
import types

import pytest
import torch
from installed import lacking, pretending

from unlearn.catalogue import DETECTORS
from unlearn.detectors import pocket
from unlearn.detectors.detector import Detector, ImageFeatures, ImageText, read_reference
from unlearn.detectors.imagenet import ImageNetClassifier
from unlearn.detectors.inception import Inception
from unlearn.detectors.nudenet import SIZE, NudeNet, square
from unlearn.detectors.openclip import OpenClip
from unlearn.detectors.reading import Failure, rows
from unlearn.errors import ConfigError


class Directions(ImageText):
    """Texts and images are unit vectors: ``east`` and ``north``."""

    labels, template, threshold = (), "the {}", 0.5

    def __init__(self, others):
        self.others, self.calls = others, 0

    def features(self, images):
        return images.mean(dim=(2, 3))[:, :2] * 7

    def text_features(self, texts):
        self.calls += len(texts)
        table = {"the east": [1.0, 0.0], "the north": [0.0, 3.0]}
        return torch.tensor([table[text] for text in texts])


def towards(east, north):
    return torch.tensor([east, north, 0.0]).reshape(1, 3, 1, 1).expand(1, 3, 2, 2)


def test_a_detector_without_a_rule_for_it_abstains_never_and_knows_nothing_of_its_errors():
    network = NudeNet(weights=None, threshold=0.6)
    readout = torch.zeros(3, 18)
    assert network.abstains(readout, "FACE_MALE").tolist() == [False] * 3
    assert network.errors("FACE_MALE") is None


def test_every_name_stands_for_a_network():
    assert all(issubclass(kind, Detector | ImageFeatures) for kind in DETECTORS.values())


def test_a_label_shows_if_it_is_the_most_probable():
    clip = Directions(["north", "east"])
    images = torch.cat([towards(0.9, 0.3), towards(0.3, 0.9)])
    assert clip.shows(images, "east").tolist() == [True, False]
    assert clip.shows(images, "north").tolist() == [False, True]
    expected = torch.softmax(100 * torch.tensor([[0.9, 0.3]]) / 0.9**0.5, dim=1)[:, 0]
    torch.testing.assert_close(clip.probability(clip.readout(images[:1]), "east"), expected)


def test_a_label_below_the_threshold_does_not_show():
    clip = Directions(["north"])
    clip.threshold = 0.9
    assert clip.shows(towards(0.501, 0.5), "east").tolist() == [False]
    assert clip.shows(towards(0.9, 0.5), "east").tolist() == [True]


def test_it_abstains_where_no_label_is_probable_enough():
    clip = Directions(["north"])
    readout = clip.readout(torch.cat([towards(0.501, 0.5), towards(0.9, 0.5), towards(0.5, 0.9)]))
    clip.threshold = 0.9
    assert clip.abstains(readout, "east").tolist() == [True, False, False]
    clip.threshold = 0
    assert not clip.abstains(readout, "east").any()


def test_texts_are_encoded_once():
    clip = Directions(["north", "east"])
    for _ in range(3):
        clip.shows(towards(1, 0), "east")
    assert clip.calls == 2


def test_scale_of_the_features_does_not_matter():
    clip = Directions(["north"])
    bright, dark = clip.readout(towards(0.9, 0.3)), clip.readout(towards(0.09, 0.03))
    torch.testing.assert_close(bright, dark)


def openclip(**changes):
    values = {
        "architecture": "ViT-B-32-quickgelu",
        "weights": "openai",
        "others": ["a dog"],
        "template": "a photo of {}",
        "threshold": 0.5,
        "statistics": None,
        "device": "cpu",
    }
    return OpenClip(**(values | changes))


def test_openai_weights_need_quickgelu():
    with pytest.raises(ValueError, match="architecture: the openai weights need QuickGELU"):
        openclip(architecture="ViT-B-32")
    with pytest.raises(ValueError, match=r"template: must be a text with \{\}, got 'a photo'"):
        openclip(template="a photo")


def test_openclip_checks_names_and_files(tmp_path):
    assert openclip().check() == []
    assert "Did you mean 'ViT-B-32" in openclip(architecture="ViT-B32-quickgelu").check()[0]
    assert "Unknown weights 'openia'. Did you mean 'openai'" in openclip(weights="openia").check()[0]
    assert openclip(weights=str(tmp_path / "clip.pt")).check() == [
        f"weights: there is no file {tmp_path}/clip.pt."
    ]


def test_openclip_never_goes_on_with_random_weights(tmp_path):
    (tmp_path / "clip.pt").write_bytes(b"no weights")
    with pytest.raises(ConfigError, match=r"the weights '.*clip.pt' cannot be loaded"):
        openclip(weights=str(tmp_path / "clip.pt")).features(torch.zeros(1, 3, 8, 8))


def test_openclip_reads_a_file_and_prepares_images_as_in_evaluation(tmp_path):
    import open_clip

    tiny = {
        "embed_dim": 8,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 1},
    }
    (tmp_path / "tiny.json").write_text(json.dumps(tiny))
    open_clip.add_model_config(tmp_path / "tiny.json")
    torch.manual_seed(0)
    made = open_clip.model.CLIP(**{**tiny, "vision_cfg": tiny["vision_cfg"], "text_cfg": tiny["text_cfg"]})
    torch.save(made.state_dict(), tmp_path / "tiny.pt")
    clip = openclip(architecture="tiny", weights=str(tmp_path / "tiny.pt"))
    image = torch.rand(1, 3, 40, 48, generator=torch.Generator().manual_seed(0))
    first = clip.features(image)
    assert first.shape == (1, 8)
    assert torch.equal(first, clip.features(image)), "a random crop, or dropout"
    assert clip.text_features(["a cat", "a dog " * 100]).shape == (2, 8)
    made.eval()
    assert torch.allclose(
        clip.text_features(["a cat"]), made.encode_text(open_clip.tokenize(["a cat"])), atol=1e-5
    )


def test_nudenet_takes_the_strongest_detection_of_each_part(monkeypatch):
    seen = []

    class Session:
        def get_inputs(self):
            return [types.SimpleNamespace(name="images")]

        def run(self, _, feed):
            seen.append(feed["images"])
            rows = torch.zeros(1, 22, 5)
            rows[0, 4 + NudeNet.labels.index("FEMALE_BREAST_EXPOSED"), 2] = 0.7
            rows[0, 4 + NudeNet.labels.index("BELLY_EXPOSED"), 1] = 0.9
            return [rows.numpy()]

    monkeypatch.setattr(NudeNet, "_session", Session())
    detector = NudeNet(weights=None, threshold=0.6)
    image = torch.rand(1, 3, 64, 48)
    scores = detector.scores(image)
    assert scores.shape == (1, 18)
    assert seen[0].shape == (1, 3, SIZE, SIZE)
    assert detector.shows(image, "FEMALE_BREAST_EXPOSED").item()
    assert not detector.shows(image, "FACE_MALE").item()
    assert detector.probability(scores, "explicit5").item() == pytest.approx(0.7)
    assert detector.probability(scores, "exposed9").item() == pytest.approx(0.9)
    assert detector.knows("explicit5")
    assert not detector.knows("explicit6")


def test_nudenet_pads_at_the_right_and_below():
    squared = square(torch.ones(1, 3, 160, 80))
    assert squared.shape == (1, 3, SIZE, SIZE)
    assert squared[..., :, :150].min() == 1
    assert squared[..., :, 170:].max() == 0


def test_nudenet_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    lacking(monkeypatch, "onnxruntime", "nudenet", "torch_fidelity")
    detector = NudeNet(weights=None, threshold=0.6)
    assert detector.check() == ["weights: needs the packages of the extra: pip install 'unlearn[nudenet]'."]
    with pytest.raises(ConfigError, match=r"unlearn\[nudenet\]"):
        detector.scores(torch.zeros(1, 3, 8, 8))


def test_inception_says_what_to_install(monkeypatch, tmp_path):
    lacking(monkeypatch, "onnxruntime", "nudenet", "torch_fidelity")
    weights = tmp_path / "weights.pth"
    weights.touch()
    detector = Inception(weights=str(weights), statistics=None, device="cpu")
    assert detector.check() == ["weights: needs the package of the extra: pip install 'unlearn[inception]'."]
    with pytest.raises(ConfigError, match=r"unlearn\[inception\]"):
        detector.features(torch.zeros(1, 3, 8, 8))


def test_imagenet_has_the_names_of_imagenette():
    detector = ImageNetClassifier(weights=None, device="cpu")
    ids = {"tench": 0, "English springer": 217, "cassette player": 482, "chain saw": 491, "church": 497}
    ids |= {"French horn": 566, "garbage truck": 569, "gas pump": 571, "golf ball": 574, "parachute": 701}
    assert {name: detector.labels.index(name) for name in ids} == ids
    rows = torch.zeros(2, 1000)
    rows[0, 497], rows[1, 0] = 0.2, 0.3
    assert detector.decide(rows, "church").tolist() == [True, False]


def test_missing_weights_are_said(tmp_path):
    gone = str(tmp_path / "gone.pth")
    assert ImageNetClassifier(weights=gone, device="cpu").check() == [f"weights: there is no file {gone}."]
    assert "weights-inception-2015-12-05" in Inception(weights=None, statistics=None, device="cpu").check()[0]
    with pytest.raises(ConfigError, match="weights-inception-2015-12-05"):
        Inception(weights=None, statistics=None, device="cpu").features(torch.zeros(1, 3, 8, 8))
    (tmp_path / "broken.pth").write_bytes(b"no weights")
    with pytest.raises(ConfigError, match="cannot be loaded"):
        ImageNetClassifier(weights=str(tmp_path / "broken.pth"), device="cpu").scores(torch.zeros(1, 3, 8, 8))


def test_reference_features_come_from_a_file(tmp_path):
    from safetensors.torch import save_file

    features = torch.rand(4, 3)
    save_file({"features": features}, tmp_path / "real.safetensors")
    assert torch.equal(read_reference(str(tmp_path / "real.safetensors")), features)
    assert read_reference(None) is None
    save_file({"other": features}, tmp_path / "wrong.safetensors")
    with pytest.raises(ConfigError, match=r"statistics: .*wrong.safetensors holds no features"):
        read_reference(str(tmp_path / "wrong.safetensors"))


def half(content: bytes) -> bytes:
    return content[: len(content) // 2]


def jit(folder):
    path = folder / "clip.pt"
    torch.jit.save(torch.jit.trace(torch.nn.Linear(64, 64), torch.zeros(1, 64)), path)
    return path.read_bytes()


def state(folder):
    torch.save({"fc.weight": torch.rand(400, 400)}, folder / "state.pt")
    return (folder / "state.pt").read_bytes()


DAMAGE = {
    "half": half,
    "empty": lambda _: b"",
    "of another network": lambda content: content,
    "zeros": lambda content: bytes(len(content)),
    "flipped": lambda content: content[:300] + b"\xff" * 50 + content[350:],
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
@pytest.mark.filterwarnings("ignore:.torch.jit:FutureWarning", "ignore:.torch.load. received:UserWarning")
def test_a_damaged_file_of_weights_is_told_in_a_line(tmp_path, damage):
    image = torch.zeros(1, 3, 8, 8)
    (tmp_path / "x.pt").write_bytes(damage(state(tmp_path)))
    with pytest.raises(ConfigError, match=r"^detector: the weights at .*x\.pt cannot be loaded \(.+\)\. "):
        ImageNetClassifier(weights=str(tmp_path / "x.pt"), device="cpu").scores(image)
    for content in (state, jit):
        (tmp_path / "y.pt").write_bytes(damage(content(tmp_path)))
        with pytest.raises(
            ConfigError, match=r"^detector: ViT-B-32-quickgelu: the weights .* cannot be"
        ) as told:
            openclip(weights=str(tmp_path / "y.pt")).features(image)
        assert "\n" not in str(told.value)


@pytest.mark.parametrize("damage", [half, lambda _: b"", bytes.upper], ids=["half", "empty", "changed"])
@pytest.mark.parametrize(
    ("name", "use"),
    [
        ("judge_2.safetensors", lambda judge, _: judge.scores(torch.zeros(1, 3, 64, 64))),
        ("heads_2.json", lambda judge, _: judge.labels),
        ("card_2.json", lambda judge, _: judge.errors("church")),
        ("clip.safetensors", lambda _, clip: clip.features(torch.zeros(1, 3, 64, 64))),
        ("config.json", lambda _, clip: clip.features(torch.zeros(1, 3, 64, 64))),
        ("reference.safetensors", lambda _, clip: clip.reference()),
    ],
)
def test_a_damaged_file_of_the_package_is_told_in_a_line(monkeypatch, name, use, damage):
    if (name, damage) == ("heads_2.json", bytes.upper):
        pytest.skip("other names of labels are no damage that could be seen")
    whole = pocket.shipped
    monkeypatch.setattr(
        pocket, "shipped", lambda part, file: damage(whole(part, file)) if file == name else whole(part, file)
    )
    judge = pocket.PocketJudge(threshold=0.5, device="cpu")
    clip = pocket.PocketClip(others=[], template="{}", threshold=0.5, device="cpu")
    with pytest.raises(
        ConfigError, match=r"^detector: .* cannot be loaded \(.+\)\. The package's files"
    ) as told:
        use(judge, clip)
    assert "\n" not in str(told.value)


def test_what_onnxruntime_raises_is_a_failure_or_a_line(monkeypatch, tmp_path):
    Fail = type("Fail", (Exception,), {"__module__": "onnxruntime.capi.onnxruntime_pybind11_state"})

    def session(*_, **__):
        raise Fail("INVALID_PROTOBUF\nmore")

    module = types.SimpleNamespace(InferenceSession=session, get_available_providers=list, __spec__=True)
    monkeypatch.setitem(sys.modules, "onnxruntime", module)
    (tmp_path / "x.onnx").write_bytes(b"half")
    pretending(monkeypatch, "onnxruntime", "nudenet", "torch_fidelity")
    with pytest.raises(
        ConfigError, match=r"^detector: the network in .*x\.onnx cannot be loaded \(INVALID_PROTOBUF\)"
    ):
        NudeNet(weights=str(tmp_path / "x.onnx"), threshold=0.6).scores(torch.zeros(1, 3, 8, 8))

    class Session:
        def get_inputs(self):
            return [types.SimpleNamespace(name="images")]

        run = session

    monkeypatch.setattr(NudeNet, "_session", Session())
    (row,) = rows(NudeNet(weights=None, threshold=0.6).readout, torch.zeros(1, 3, 8, 8))
    assert row == Failure("INVALID_PROTOBUF")
