"""DUGE: the training, and what it learns of each concept beforehand."""
