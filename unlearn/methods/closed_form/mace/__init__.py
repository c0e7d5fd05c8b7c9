"""MACE: its closed-form edit, the adapters that suppress each concept, and their fusion."""
