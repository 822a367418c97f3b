"""From the bytes of an image file to what a model takes: limits, headers, decoding, encoding for the wire."""
