"""The TensorFlow Hub module below the head: found, downloaded, looked at and loaded."""
