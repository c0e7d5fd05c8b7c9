"""Attacks that search for words with the text tower or a filter alone: Ring-A-Bell, MMA, SneakyPrompt.

What they share with others lies in :mod:`unlearn.attacks`.
"""
