"""The prediction job: list, read, preprocess, ask, account for every picture, merge.

Importing this package loads neither Beam nor TensorFlow.
"""
