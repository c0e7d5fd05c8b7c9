"""What comes from outside the package: methods, attacks, metrics and the like, and their configurations.

An installed package announces its classes by entry points, as ``[project.entry-points."unlearn.methods"]``
``mine = "package.module:Mine"``; a file of one's own is named on the command line, ``plugins=[mine.py]``. In
both cases a folder ``conf/`` beside it holds the YAML. What stands in these files is their authors'; the
names they take are checked here and entered in :mod:`unlearn.catalogue`.
"""
