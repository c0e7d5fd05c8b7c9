"""Attacks on erased models: what they all are (:mod:`~unlearn.attacks.attack`), the controls, and what they
share.

Each attack lies in the room of its kind; its name stands in :mod:`unlearn.catalogue`.
"""
