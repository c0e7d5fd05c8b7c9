"""Ways in which an erased concept may come back without an adversarial prompt.

The curves that are drawn of them lie in :mod:`unlearn.pipeline.curves`.
"""
