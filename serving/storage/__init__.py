"""Whole files by path, on a disk or in a bucket."""
