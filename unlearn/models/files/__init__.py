"""Checkpoints on disk: where they lie, what they hold, reading them safely, writing an erased one.

No network is built here: :mod:`unlearn.models.families` does.
"""
