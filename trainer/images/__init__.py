"""The labelled images that a model is trained on: read, checked, compared with each other, and split."""
