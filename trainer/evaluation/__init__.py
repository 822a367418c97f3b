"""How good a model is: measured, compared with the one in service, and let through or not."""
