"""Methods that change what is drawn and no weight: negative prompts, SLD, SAFREE.

The hooks that they fill are those of :mod:`unlearn.models.guards`.
"""
