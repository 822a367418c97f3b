"""The job on real Dask clusters: a scheduler and workers in processes of their own."""
