"""Erasure methods, by their name in ``conf/method``."""

from unlearn.methods.advunlearn import AdvUnlearn
from unlearn.methods.concept_ablation import ConceptAblation
from unlearn.methods.doco import DoCo
from unlearn.methods.duge import DUGE
from unlearn.methods.erasediff import EraseDiff
from unlearn.methods.esd import ESD
from unlearn.methods.forget_me_not import ForgetMeNot
from unlearn.methods.mace import MACE
from unlearn.methods.method import Method
from unlearn.methods.negative_prompt import NegativePrompt, NegativePromptGuard
from unlearn.methods.none import Nothing
from unlearn.methods.realera import RealEra
from unlearn.methods.rece import RECE
from unlearn.methods.rg import RG
from unlearn.methods.safree import SAFREE, SAFREEGuard
from unlearn.methods.salun import SalUn
from unlearn.methods.selective_amnesia import SelectiveAmnesia
from unlearn.methods.sld import SLD, SLDGuard
from unlearn.methods.spm import SPM, SPMGuard
from unlearn.methods.trce import TRCE
from unlearn.methods.uce import UCE
from unlearn.models.guards import GUARDS

METHODS: dict[str, type[Method]] = {
    "none": Nothing,
    "uce": UCE,
    "rece": RECE,
    "mace": MACE,
    "esd": ESD,
    "concept_ablation": ConceptAblation,
    "salun": SalUn,
    "erasediff": EraseDiff,
    "selective_amnesia": SelectiveAmnesia,
    "forget_me_not": ForgetMeNot,
    "spm": SPM,
    "advunlearn": AdvUnlearn,
    "trce": TRCE,
    "realera": RealEra,
    "duge": DUGE,
    "doco": DoCo,
    "rg": RG,
    "negative_prompt": NegativePrompt,
    "sld": SLD,
    "safree": SAFREE,
}

GUARDS.update(negative_prompt=NegativePromptGuard, sld=SLDGuard, safree=SAFREEGuard, spm=SPMGuard)
