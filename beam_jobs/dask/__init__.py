"""The job, and pipelines of users, on a Dask cluster. Needs the extra `dask`."""
