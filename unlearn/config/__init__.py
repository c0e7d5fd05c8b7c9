"""From the words of the command line to the objects of a run, and whether these fit together.

Here and in the line (:mod:`unlearn.pipeline.run`) alone the whole configuration is known; the classes that
its parts become lie in the rooms of their own.
"""
