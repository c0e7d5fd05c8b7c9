"""TRCE: its closed-form edit, and the steering of early denoising steps that follows it."""
