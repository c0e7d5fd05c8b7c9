"""What methods train on: pools of images, noisy states, anchors, pairs of prompts.

No method and no loss lies here.
"""
