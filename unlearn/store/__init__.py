"""What ``outputs/`` holds: artifacts under fingerprints of all that they depend on, results and their
validation, where and with which code both were made.

How a file is written lies in :mod:`unlearn.system`; who asks for what, in :mod:`unlearn.pipeline`.
"""
