"""The model store: `STORE/NAME/VERSION/`, on a disk or in a bucket.

`versions` says what a version folder is, when it is whole, and which one is the newest. `publish` puts a new version
there, `fetch` copies one to a disk. The trainer, the prediction job, the embedded server and the pods all use these.
"""
