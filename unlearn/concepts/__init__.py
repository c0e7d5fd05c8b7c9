"""What is to be erased and what is to be kept: concepts, how they are chosen and worded, prompt files, and
the images that were drawn for them, on disk.

The concepts themselves stand in ``conf/concept/``; how they are found in an image, in
:mod:`unlearn.detectors`.
"""
