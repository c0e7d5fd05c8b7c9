"""Where numbers and images go while a run goes on: W&B, a file, nowhere.

The report that is written in the end lies in :mod:`unlearn.report`.
"""
