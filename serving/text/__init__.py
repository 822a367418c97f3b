"""Text files that users write: UTF-8, CSVs, labels, sizes."""
