"""This process and its children: signals, forks, temporary files, and the import of TensorFlow."""
