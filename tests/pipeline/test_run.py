"""Whole runs, each a process of its own, in the small world of tests/small_world."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from small_run import RUN, command

from unlearn.store.results import read_items, read_results

TIMES = {"erase_seconds", "attack_seconds", "generate_seconds", "score_seconds", "peak_memory_gib"}


@pytest.fixture
def unlearn(tiny_folder, tmp_path):
    """Calls the command in an empty folder."""

    def call(*words, concept="red", code=0, kill=0):
        chosen = [f"model.source={tiny_folder}", f"concept={concept}"]
        done = command(tmp_path, *RUN, *chosen, *words, SMALL_WORLD_KILL=str(kill))
        assert done.returncode == code, done.stdout + done.stderr
        return done

    return call


def folder_of(done):
    """The run folder, from the last line that a run prints."""
    path = Path(done.stdout.splitlines()[-1])
    assert path.name == "results.json"
    return path.parent


def lasting(folder):
    """``results.json`` without times, and without the commit, which a test cannot hold still."""
    found = json.loads((folder / "results.json").read_text())
    del found["environment"], found["made_with"]
    found["cost"] = {key: value for key, value in found["cost"].items() if key not in TIMES}
    for one in found.get("attacks", ()):
        del one["seconds"]
    return found


def test_a_run_ends_with_results_and_a_second_one_computes_nothing(unlearn):
    first = unlearn("method=uce")
    folder = folder_of(first)
    results = read_results(folder)
    assert set(results["scores"]) >= {"erased", "unrelated", "clip_score", "asr_random_tokens"}
    assert results["cost"]["parameters_changed"] > 0
    (control,) = results["attacks"]
    assert (control["name"], control["found"] <= control["prompts"]) == ("random_tokens", True)
    assert control["queries"] >= 1
    assert control["unet_forwards"] > control["queries"]
    assert any("hardly knows it" in warning for warning in results["warnings"])
    items = read_items(folder)
    assert all((folder / item["image"]).is_file() for item in items)
    assert {item["model"] for item in items} == {"original", "erased"}
    assert (folder / "report.html").is_file()
    assert "Nothing was computed" not in first.stdout
    (made,) = results["made_with"]
    here = {key: value for key, value in results["environment"].items() if key != "library_warnings"}
    assert {key: made[key] for key in here} == here
    folders = {name for name, artifact in results["artifacts"].items() if artifact["path"] is not None}
    assert set(made["artifacts"]) == folders

    second = unlearn("method=uce")
    assert "Nothing was computed" in second.stdout
    assert folder_of(second) == folder
    assert read_results(folder) == results | {"environment": read_results(folder)["environment"]}

    # The original's images, the prompts and their scores are those of the first run.
    third = unlearn("method=none")
    assert "1 made" in third.stdout
    other = read_results(folder_of(third))
    shared = [key for key in results["artifacts"] if key.startswith("images:original")]
    assert shared
    assert all(other["artifacts"][key] == results["artifacts"][key] for key in shared)
    for name, score in other["scores"].items():
        if not name.startswith("asr") and score["difference"] is not None:
            assert score["difference"]["value"] == 0, name


def test_two_runs_at_once_in_a_users_folder_take_turns_and_touch_nothing_else(unlearn, tmp_path):
    strange = [tmp_path / "victim" / name for name in ("thesis.tex", "deep/notes.txt", "0/report.html")]
    strange += [tmp_path / "outputs" / "artifacts" / name for name in ("notes.txt", "images/notes.txt")]
    for path in strange:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("mine")
    words = ("method=uce", "hydra.run.dir=victim")
    with ThreadPoolExecutor(2) as pool:
        both = [each.result() for each in [pool.submit(unlearn, *words) for _ in range(2)]]
    waited = [f"another run writes to {tmp_path / 'victim'}" in done.stderr for done in both]
    idle = ["Nothing was computed" in done.stdout for done in both]
    assert sorted(waited) == [False, True]
    assert idle == waited
    folder = folder_of(both[0])
    results = read_results(folder)
    assert (results["name"], len(results["fingerprint"])) == ("victim", 12)
    read_items(folder)
    assert {path.name for path in (folder / ".hydra").iterdir()} == {
        "config.yaml", "hydra.yaml", "overrides.yaml"
    }  # fmt: skip
    assert {path.name for path in folder.iterdir()} <= {
        ".hydra", "results.json", "items.jsonl", "metrics.jsonl", "report.html", "unlearn.log", "thesis.tex",
        "deep", "0",
    }  # fmt: skip

    other = unlearn("method=none", "hydra.run.dir=victim", code=2)
    assert "holds the results of another run" in other.stderr
    assert read_results(folder) == results
    for path in sorted({each.parent for each in tmp_path.glob("outputs/artifacts/*/*/*")}):
        strange.append(path / "notes.txt")
        strange[-1].write_text("mine")
    unlearn(*words, "force=true")
    assert [path.read_text() for path in strange] == ["mine"] * len(strange)
    assert lasting(folder) == {**lasting(folder), "scores": results["scores"]}


def test_a_learned_word_is_found_again_with_its_prompts(unlearn):
    words = ["method=uce", "+attack@eval.attacks.cce=cce", "eval.attacks.cce.prompts=2"]
    words += [f"eval.attacks.cce.{each}=2" for each in ("images", "steps", "batch_size")]
    folder = folder_of(unlearn(*words))
    results = read_results(folder)
    assert results["scores"]["asr_cce"]["n"] == 2
    kept = folder / results["artifacts"]["attack:cce"]["path"]
    assert {path.name for path in kept.iterdir()} >= {"attack.json", "words.safetensors", "lengths.json"}
    learned = [row for row in read_items(folder) if row["prompts"] == "attack:cce"]
    assert all("~" in row["prompt"] and "church" in row["plain"] for row in learned)
    assert "Nothing was computed" in unlearn(*words).stdout


def test_a_sequence_goes_from_the_command_line_to_the_report_and_on_after_a_kill(unlearn):
    small = [f"method.{key}=2" for key in ("steps", "batch_size", "prior_batch_size", "images", "memory")]
    words = ["method=duge", *small, "method.sampler.steps=2"]
    unlearn(*words, concept="line", kill=4, code=-9)  # when the second step is about to be kept
    done = unlearn(*words, concept="line")
    assert "erase     2 made, 1 reused" in done.stdout
    folder = folder_of(done)
    results = read_results(folder)
    steps = results["steps"]
    assert [step["concept"] for step in steps] == ["red", "cat", "dog"]
    assert [step["scores"]["erased"]["n"] for step in steps] == [6, 12, 18]
    for step in steps:
        assert list(step["concepts"]) == ["red", "cat", "dog"]
        assert all(score["n"] == 6 and score["interval"] for score in step["concepts"].values())
        assert step["scores"]["unrelated"]["original"] == results["scores"]["unrelated"]["original"]
        assert step["drift"] > 0
    assert steps[-1]["scores"] == {key: results["scores"][key] for key in ("erased", "unrelated")}
    assert results["cost"]["unet_forwards"] == sum(step["unet_forwards"] for step in steps)
    assert results["cost"]["erase_seconds"] == pytest.approx(sum(step["erase_seconds"] for step in steps))
    for name in ("step1:erasure", "step2:erasure", "erasure", "step2:images:erased:plain"):
        assert (folder / results["artifacts"][name]["path"]).is_dir()
    report = (folder / "report.html").read_text()
    assert "Step by step" in report

    again = unlearn(*words, concept="line")
    assert "Nothing was computed" in again.stdout
    assert "red" in again.stdout
    logged = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in logged if row["stage"] == "erase"] == list(range(6))
    assert [row["erased_red"] for row in logged if row["stage"] == "sequence"] == [
        step["concepts"]["red"]["value"] for step in steps
    ]


@pytest.mark.slow
def test_a_killed_run_goes_on_and_ends_as_if_nothing_had_happened(unlearn, tmp_path):
    undisturbed = lasting(folder_of(unlearn("method=uce")))
    artifacts = tmp_path / "outputs"
    artifacts.rename(tmp_path / "undisturbed")
    kills = 0
    for chance in range(1, 60, 7):  # in every stage: each write of an artifact or an image is a chance
        done = None
        try:
            unlearn("method=uce", kill=chance, code=-9)
            kills += 1
        except AssertionError:
            done = unlearn("method=uce")
            break
    assert kills >= 3
    assert lasting(folder_of(done or unlearn("method=uce"))) == undisturbed
    assert not [path for path in artifacts.rglob("*") if path.name.endswith((".tmp", ".part"))]


def test_an_attack_that_is_killed_goes_on_and_finds_the_same_prompts(unlearn, tmp_path):
    key = "eval.attacks.unlearndiffatk"
    small = ["prompts=5", "batch_size=2", "looks=2", "steps=3", "objective.images=1"]
    words = ["method=uce", f"+attack@{key}=unlearndiffatk", *(f"{key}.{each}" for each in small)]

    def found() -> list[str]:
        attacks = [
            json.loads(path.read_text()) for path in tmp_path.glob("outputs/artifacts/attack/*/attack.json")
        ]
        (one,) = (each for each in attacks if each["prompts"]["name"] == "attack:unlearndiffatk")
        return one["prompts"]["prompts"]

    def undisturbed(name: str) -> tuple[list[str], dict]:
        results = lasting(folder_of(unlearn(*words)))
        prompts = found()
        (tmp_path / "outputs").rename(tmp_path / name)
        return prompts, results

    once, twice = undisturbed("once"), undisturbed("twice")
    assert once == twice
    assert len(set(once[0])) == 5

    unlearn(*words, kill=17, code=-9)  # in the second of three batches
    assert [path.name for path in tmp_path.glob("outputs/artifacts/scratch/attack/*/batch*")] == [
        "batch0.json"
    ]
    (left,) = tmp_path.glob("outputs/artifacts/scratch/attack/*/batch0.json")
    begun = left.stat().st_mtime_ns
    unlearn(*words, kill=6, code=-9)  # goes on behind the first, and is killed again
    assert left.stat().st_mtime_ns == begun
    assert (lasting(folder_of(unlearn(*words))), found()) == (once[1], once[0])
    assert not left.exists()


def test_a_sweep_finishes_the_jobs_that_do_not_fail(unlearn, tmp_path):
    done = unlearn("-m", "method=none,uce", "model.sampler.guidance=1.0,1e30", code=1)
    finished = list(tmp_path.glob("outputs/runs/*/results.json"))
    assert len(finished) == 2
    assert "failed" in done.stderr


def test_a_mistake_leaves_nothing_behind(unlearn, tmp_path):
    done = unlearn("method=uce", "method.ridge=-1", "+method.rigde=2", code=2)
    assert "method.ridge: must be" in done.stderr
    assert "method.rigde: Unknown key 'rigde'. Did you mean 'ridge'?" in done.stderr
    assert not list(tmp_path.glob("outputs/runs/*"))


def test_damage_is_said_in_a_line_and_mended_by_force(unlearn, tmp_path):
    folder = folder_of(unlearn("method=uce"))
    (weights,) = tmp_path.glob("outputs/artifacts/erasure/*/weights.safetensors")
    weights.write_bytes(weights.read_bytes()[:-10])
    done = unlearn("method=uce", code=1)
    assert "damaged" in done.stderr
    assert "force=true" in done.stderr
    assert "Traceback" not in done.stderr
    assert lasting(folder_of(unlearn("method=uce", "force=true"))) == lasting(folder)


def test_curves_go_on_after_a_kill_and_end_as_if_nothing_had_happened(unlearn, tmp_path):
    words = ["method=uce", "+resurgence@eval.resurgence.back=relearn", "eval.resurgence.back.prompts=3"]
    small = ["steps=[1,2]", "images=2", "batch_size=2", "parameters=[cross_attention]"]
    words += [f"eval.resurgence.back.{each}" for each in small]
    words += ["~eval.attacks.random_tokens", "~eval.metrics.asr", "~eval.metrics.clip_score"]
    first = unlearn(*words)
    undisturbed, folder = lasting(folder_of(first)), folder_of(first)
    (curve,) = undisturbed["resurgence"]
    assert [point["at"] for point in curve["points"]] == [0, 1, 2]
    assert all(point["n"] == 3 and point["interval"] for point in curve["points"])
    plain = [row for row in read_items(folder) if row["prompts"] == "plain" and row["model"] == "erased"]
    rate = 100 * sum(row["scores"]["erased"] for row in plain[:3]) / 3
    assert curve["points"][0]["value"] == pytest.approx(rate)
    assert "How fast it comes back" in (folder / "report.html").read_text()
    assert (folder / undisturbed["artifacts"]["resurgence:erased:back"]["path"]).is_dir()
    assert "Nothing was computed" in unlearn(*words).stdout

    artifacts = tmp_path / "outputs" / "artifacts"
    for kind in ("resurgence", "curves"):
        (artifacts / kind).rename(tmp_path / f"undisturbed-{kind}")
    unlearn(*words, kill=5, code=-9)  # while the images of the second place are written
    assert list((artifacts / "scratch" / "resurgence").glob("*/0/00002.png"))
    again = lasting(folder_of(unlearn(*words)))
    for found in (again, undisturbed):
        found["resurgence"][0]["seconds"] = 0
    assert again == undisturbed


def test_an_edited_checkpoint_given_as_the_source_is_computed_anew(unlearn, tmp_path, tiny_folder):
    from safetensors.torch import load_file, save_file

    model = shutil.copytree(tiny_folder, tmp_path / "model")
    words = ["method=none", f"model.source={model}", "~eval.attacks.random_tokens", "~eval.metrics.asr"]
    first = folder_of(unlearn(*words))
    before = read_results(first)
    assert "Nothing was computed" in unlearn(*words).stdout

    path = model / "unet" / "diffusion_pytorch_model.safetensors"
    weights = load_file(path)
    for name in weights:
        if "attn2.to_v" in name or "attn2.to_k" in name:
            weights[name] *= -1
    save_file(weights, path, metadata={"format": "pt"})
    refused = command(tmp_path, "export", str(first), str(tmp_path / "exported"))
    assert refused.returncode == 1
    assert "holds other files than when" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not (tmp_path / "exported").exists()

    again = unlearn(*words)
    assert "Nothing was computed" not in again.stdout
    after = read_results(folder_of(again))
    images = [key for key in before["artifacts"] if key.startswith("images:original")]
    assert images
    assert all(after["artifacts"][key] != before["artifacts"][key] for key in images)


def test_what_an_artifact_was_made_with_is_told_and_not_where_it_was_found(unlearn, tmp_path):
    folder = folder_of(unlearn("method=uce"))
    for path in tmp_path.glob("outputs/artifacts/images/*/made.json"):
        made = json.loads(path.read_text())
        made["environment"] |= {"python": "2.7", "dirty": True, "commit": "abcdef0123456789"}
        path.write_text(json.dumps(made))
    assert "Nothing was computed" in unlearn("method=uce").stdout
    results = read_results(folder)
    old = [one for one in results["made_with"] if one["python"] == "2.7"]
    assert len(results["made_with"]) == 2
    assert {name.split(":")[0] for name in old[0]["artifacts"]} == {"images"}
    assert results["environment"]["python"] != "2.7"
    report = (folder / "report.html").read_text()
    assert "2.7" in report
    assert "The code differed from commit abcdef0123" in report
