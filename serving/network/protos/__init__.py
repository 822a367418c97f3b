"""TensorFlow Serving's messages under our own names, free of TensorFlow, and their tensors as numpy arrays."""
