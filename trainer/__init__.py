"""Fine-tunes a TensorFlow Hub image model on labelled images and exports it with its contract.

Importing this package loads nothing heavy.
"""
