"""The weights of a model under change: which are selected, closed-form maps, adapters, attention, gradients.

What a method does with them lies in :mod:`unlearn.methods`.
"""
