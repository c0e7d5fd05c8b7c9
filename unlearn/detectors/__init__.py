"""Networks that judge an image, and those whose features are compared.

What is made of their verdicts lies in :mod:`unlearn.metrics`.
"""
