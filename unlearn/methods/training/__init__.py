"""Methods that train the weights, and the loop that they share.

What they train on lies in :mod:`unlearn.methods.training.material`.
"""
