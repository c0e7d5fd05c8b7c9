"""Text-to-image diffusion models as the rest of the package knows them: the model, the denoising loop and
what acts in it, erasures, learned words.

No method lies here, and of one family's parts only :mod:`unlearn.models.families` knows.
"""
