"""Ways in which an erased concept may come back without an adversarial prompt.

The images of their curves are drawn in :mod:`unlearn.pipeline.resurging`.
"""
