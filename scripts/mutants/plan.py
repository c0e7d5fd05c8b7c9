"""What is mutated, and which tests are to see it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Plan:
    """A tree with its tests; of the files that it names, it takes those that are there.

    Attributes:
        root: The folder of the tree, which is only read.
        mutated: Patterns of the files that get a mistake.
        tests: Patterns of the test files.
        code: Patterns of all that a verdict depends on, beside the tests.
        preload: Modules to import once for all tests.
        slow: Test files that are left out.
    """

    root: Path
    mutated: tuple[str, ...]
    tests: tuple[str, ...]
    code: tuple[str, ...]
    preload: tuple[str, ...] = ()
    slow: frozenset[str] = frozenset()

    def files(self, only: list[str]) -> list[str]:
        """What is mutated, or what of it ``only`` names."""
        found = self._matching(self.mutated)
        unknown = sorted(set(only) - set(found))
        if unknown:
            raise SystemExit(f"--only: {', '.join(unknown)} is not among the files: {', '.join(found)}.")
        return [name for name in found if name in only or not only]

    def test_files(self) -> dict[str, str]:
        """The digest of each test file."""
        names = [name for name in self._matching(self.tests) if name not in self.slow]
        return {name: self._digest([name]) for name in names}

    def digest(self) -> str:
        """Of all that a verdict depends on, beside the tests."""
        tests = self._matching(self.tests)
        return self._digest([name for name in self._matching(self.code) if name not in tests])

    def _matching(self, patterns: tuple[str, ...]) -> list[str]:
        paths = {path for pattern in patterns for path in self.root.glob(pattern)}
        return sorted(path.relative_to(self.root).as_posix() for path in paths)

    def _digest(self, names: list[str]) -> str:
        digest = hashlib.sha256()
        for name in names:
            digest.update(name.encode() + b"\0" + (self.root / name).read_bytes() + b"\0")
        return digest.hexdigest()[:16]


OURS = Plan(
    root=ROOT,
    mutated=(
        "unlearn/metrics/**/[a-z]*.py",
        "unlearn/statistics/[a-z]*.py",
        *(f"unlearn/pipeline/{name}.py" for name in ("attacking", "doubts", "drawing", "judging")),
        *(f"unlearn/pipeline/{name}.py" for name in ("outcome", "scoring")),
        "unlearn/attacks/attack.py",
        "unlearn/attacks/checks.py",
    ),
    tests=(
        "tests/metrics/**/test_*.py",
        "tests/statistics/test_*.py",
        "tests/pipeline/test_*.py",
        "tests/attacks/test_*.py",
    ),
    # Whole runs and attacks on a random model, which take as long as all others together.
    slow=frozenset(
        [
            *(f"tests/pipeline/test_{name}.py" for name in ("curves", "memory", "run", "sequence")),
            *(f"tests/attacks/test_{name}.py" for name in ("budget", "failures")),
        ]
    ),
    code=("unlearn/**/*.py", "conf/**/*.yaml", "tests/conftest.py", "tests/**/[a-s]*.py", "pyproject.toml"),
    preload=(
        "pytest", "numpy", "scipy.stats", "torch", "torchvision.transforms.v2", "hydra", "diffusers",
        "transformers",
        "diffusers.models.unets.unet_2d_condition", "diffusers.models.autoencoders.autoencoder_kl",
        "transformers.models.clip.modeling_clip", "transformers.models.clip.tokenization_clip", "PIL.Image",
        "tqdm", "xxhash", "safetensors.torch", "jinja2", "omegaconf", "torchmetrics", "open_clip",
    ),
)  # fmt: skip
