"""Attacks on the embedding of a word, and the descent that AdvUnlearn trains against as well: CCE.

What they share with others lies in :mod:`unlearn.attacks`.
"""
