"""What the process asks of the machine: files that appear whole, locks, signals, the network, memory that
runs short, what libraries warn of, what is to be shown to nobody.

Nothing here knows of models or runs; what is kept in ``outputs/`` lies in :mod:`unlearn.store`.
"""
