"""Attacks that follow the gradient of a denoising loss to other tokens: UnlearnDiffAtk, P4D.

What they share with others lies in :mod:`unlearn.attacks`.
"""
