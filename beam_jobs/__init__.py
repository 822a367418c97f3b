"""The prediction job: list, read, preprocess, ask, account for every image, merge.

Importing this package loads neither Beam nor TensorFlow.
"""
