"""AdvUnlearn: the training, and the soft prompts that attack the model meanwhile."""
