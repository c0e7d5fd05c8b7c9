"""What a run proves: the four axes of an erasure, and the one verdict that follows from them.

Numbers come from ``results.json`` as it stands on disk; nothing is measured here. How a verdict is laid out
is the report's matter.
"""
