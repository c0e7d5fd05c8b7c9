"""DoCo: the training against a discriminator, and what is shown to it."""
