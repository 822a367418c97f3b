"""Recounts the files of a complete run: each against what docs/output-files.md says, and against the others."""
