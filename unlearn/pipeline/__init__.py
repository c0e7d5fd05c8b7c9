"""The straight line of a run and its stages: load, erase, attack, generate, resurge, score, report.

What each stage does with a model lies in the rooms below; where its result is kept, in :mod:`unlearn.store`.
"""
