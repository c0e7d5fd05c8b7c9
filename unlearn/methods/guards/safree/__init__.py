"""SAFREE: the projection of the prompt, and the re-attention in the frequency domain."""
