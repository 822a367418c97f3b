"""What a served model is and how to ask it: contract, preprocessing, client and embedded server.

Importing this package loads nothing heavy; TensorFlow is loaded by `serving.images.preprocessing` and by the
embedded server only.
"""
