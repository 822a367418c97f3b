"""Fine-tunes a TensorFlow Hub image model on labelled pictures and exports it with its contract.

Importing this package loads nothing heavy.
"""
