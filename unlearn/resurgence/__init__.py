"""Ways in which an erased concept may come back without an adversarial prompt, by their name in
``conf/resurgence``.
"""

from unlearn.resurgence.quantisation import Quantisation
from unlearn.resurgence.relearning import Relearning
from unlearn.resurgence.resurgence import Resurgence
from unlearn.resurgence.sampling import OtherGuidance, OtherSamplers, StartImages

RESURGENCES: dict[str, type[Resurgence]] = {
    "relearning": Relearning,
    "quantisation": Quantisation,
    "samplers": OtherSamplers,
    "guidance": OtherGuidance,
    "start_images": StartImages,
}
