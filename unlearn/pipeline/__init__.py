"""The straight line of a run (:mod:`unlearn.pipeline.run`), and its stages, each in a file of its own.

What each stage does with a model lies in the rooms below; where its result is kept, in :mod:`unlearn.store`.
"""
