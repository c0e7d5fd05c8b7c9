"""What is measured of images: detections, accuracy, distances of distributions, with intervals.

Metrics see images only, neither models nor methods nor attacks.
"""
