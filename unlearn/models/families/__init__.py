"""One file for each family of models, with all that is known of its parts.

What the rest of the package asks of any family is :mod:`unlearn.models.model`.
"""
