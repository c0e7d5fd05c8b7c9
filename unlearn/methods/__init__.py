"""Erasure methods: what they all are (:mod:`~unlearn.methods.method`) and what several rooms of them share.

Each method lies in the room of its kind; its name stands in :mod:`unlearn.catalogue`.
"""
