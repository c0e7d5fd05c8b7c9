"""Methods that solve for the weights: UCE, RECE, MACE, TRCE, RealEra, and the solver that they share.

What follows a closed-form edit by training uses :mod:`unlearn.methods.training`.
"""
