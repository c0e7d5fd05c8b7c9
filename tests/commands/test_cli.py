"""The command's words, their exit codes, and that the light ones stay light."""

import errno
import subprocess
import sys

import pytest

from unlearn import cli
from unlearn.commands import COMMANDS, completion
from unlearn.commands.completion import candidates
from unlearn.errors import ArtifactError, ConfigError, IncompatibleError, UnlearnError
from unlearn.system.stopping import Stopped


def ended(words):
    with pytest.raises(SystemExit) as caught:
        cli.main(words)
    return caught.value.code


@pytest.fixture
def failing(monkeypatch):
    """Makes ``unlearn check`` end with an error."""

    def fail(error):
        def main(_arguments):
            raise error

        monkeypatch.setattr("unlearn.commands.check.main", main)

    return fail


def test_help_names_every_command(capsys):
    assert ended(["--help"]) == 0
    said = capsys.readouterr().out
    assert all(f"\n    {name}" in said for name in COMMANDS)


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "run"])
def test_every_command_explains_itself(name, capsys):
    assert ended([name, "--help"]) == 0
    assert capsys.readouterr().out.startswith(f"usage: unlearn {name}")


def test_a_word_that_is_none_is_a_users_mistake(capsys):
    assert ended(["rnu"]) == 2
    assert "rnu" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (ConfigError("seed: must be …"), 2, "unlearn: seed: must be …\n"),
        (IncompatibleError("method: …"), 2, "unlearn: method: …\n"),
        (ArtifactError("it is damaged"), 1, "unlearn: it is damaged\n"),
        (UnlearnError("it failed"), 1, "unlearn: it failed\n"),
        (KeyboardInterrupt(), 130, "unlearn: stopped by SIGINT. This begins again: unlearn check\n"),
        (Stopped(15), 143, "unlearn: stopped by SIGTERM. This begins again: unlearn check\n"),
        (
            OSError(errno.ENOSPC, "No space left on device", "a/b"),
            1,
            "unlearn: no space left on the device of a/b.",
        ),
        (RuntimeError("I/O error: No space left on device (os error 28)"), 1, "unlearn: no space left"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_errors_end_in_one_line_and_a_code(failing, capsys, error, code, said):
    failing(error)
    assert ended(["check"]) == code
    err = capsys.readouterr().err
    assert err.startswith(said)
    assert err.count("\n") == 1


def test_a_bug_shows_where_it_is(failing, capsys):
    failing(ZeroDivisionError("division by zero"))
    assert ended(["check"]) == 1
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert err.endswith("unlearn: failed: ZeroDivisionError: division by zero\n")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("unlearn ", {f"{name} " for name in COMMANDS}),
        ("unlearn rep", {"report "}),
        ("unlearn list me", {"methods ", "metrics "}),
        ("unlearn show method=uc", {"method=uce", "method=uce_2023", "method=uce_moderate"}),
        ("unlearn run tracker=", {"tracker=none", "tracker=wandb"}),
        ("unlearn run met", {"method.", "method="}),
        ("unlearn run seeds.", {"seeds.attack=", "seeds.erase=", "seeds.generate="}),
        ("unlearn run tracker.mode=", {"tracker.mode=auto"}),
        ("unlearn run tracker=none tracker.", set()),
        ("unlearn run hydra/launcher=", {"hydra/launcher=gpus", "hydra/launcher=slurm"}),
        ("unlearn run nothing.like.this", set()),
        ("unlearn completion ", {"bash", "fish", "zsh"}),
    ],
)
def test_completion(line, expected):
    assert set(candidates(line)) == expected


def test_completion_follows_what_a_method_extends():
    assert "method.optimizer." in candidates("unlearn run method=esd_u method.")
    assert "method.start.ridge=" in candidates("unlearn run method=rece method.start.")
    assert "eval.metrics.fid." in candidates("unlearn run eval=standard eval.metrics.f")


def test_bash_completes(tmp_path):
    """The script that bash evaluates fills COMPREPLY, with and without '=' as the end of a word."""
    script = f"""
unlearn() {{ {sys.executable} -m unlearn.cli "$@"; }}
{completion.SCRIPTS["bash"]}
COMP_LINE="unlearn run tracker=w" COMP_POINT=21 COMP_WORDBREAKS="$1"
_unlearn
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    path = tmp_path / "script.sh"
    path.write_text(script)
    for breaks, expected in ((" =", "wandb"), (" ", "tracker=wandb")):
        done = subprocess.run(["bash", path, breaks], capture_output=True, text=True, check=True)
        assert done.stdout.split() == [expected], done.stderr


@pytest.mark.parametrize("words", [["--help"], ["list", "--help"], ["complete", "--", "unlearn run method."]])
def test_light_commands_import_neither_torch_nor_hydra(words):
    code = f"""
import sys
from unlearn.cli import main
try:
    main({words!r})
except SystemExit as end:
    assert not end.code, end.code
heavy = {{"torch", "hydra", "omegaconf", "numpy", "diffusers", "transformers"}} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
