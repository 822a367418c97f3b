"""The clients of a served model: what it is asked, how, and what its answers mean."""
