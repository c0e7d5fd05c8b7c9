"""Numbers that papers report besides a rate: ratios, curves, counts, and means of several scores.

Each names the paper whose protocol it follows, and says where it departs from it.
"""
