"""Model families, by their name in ``conf/model``."""

from unlearn.models.sd import StableDiffusion

MODELS: dict[str, type[StableDiffusion]] = {"sd": StableDiffusion}
