"""RealEra: its closed-form edit over neighbours of the concept, and the alignment that keeps the others."""
