"""What the processes that scripts/soak.py kills are forked from: the libraries of a run, imported once."""

import os

os.environ["OMP_NUM_THREADS"] = "1"

import hydra  # noqa: F401
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel  # noqa: F401
from transformers import CLIPTextModel, CLIPTokenizer  # noqa: F401

# Not the command: it makes Hydra know the detectors, among which the small world's are not yet.
import unlearn.pipeline.run  # noqa: F401
