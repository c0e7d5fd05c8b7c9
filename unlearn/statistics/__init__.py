"""Statistics: intervals, tests and distances, as functions of numbers alone.

Rates and means come with 95 % intervals. The unit of sampling is the prompt: images of one prompt with
different seeds are alike, so they are taken together. Random draws come from generators of their own with
fixed seeds, and groups are taken in sorted order, so that an interval depends neither on what was drawn
before nor on the order of the images.
"""
