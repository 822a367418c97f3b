"""What a user decides about an evaluation. Nothing heavy is imported, as --help is made of it."""

from serving.client.client_options import ConnectionOptions
from serving.console.option_fields import option, options_class


@options_class
class EvaluateJob(ConnectionOptions, group="Input"):
    """The options of `flow-images evaluate`: which model to ask, about which labelled images."""

    labels: str | None = option(
        "The images and their labels: Kaggle's labels.csv (id,breed), or a CSV with path,label.",
        more="On a disk or in a bucket. Other columns are slices to measure.",
        default=None,
        metavar="CSV",
    )
    images: str | None = option(
        "With id,breed: the folder of <id>.jpg.", more="On a disk or in a bucket.", default=None, metavar="FOLDER"
    )
    folder: str | None = option(
        "Instead of --labels: a folder with one folder of images a class.",
        more="On a disk or in a bucket.",
        default=None,
        metavar="FOLDER",
    )
    output: str = option("Folder for report.html and evaluation.json.", metavar="FOLDER", group="Output")
    skip_bad: bool = option("Leave out images that can't be used, and list them.", default=False)
    no_thumbnails: bool = option("Show no images in report.html.", default=False, group="Output")
    class_names: str | None = option(
        "The model's labels, a line each: what `predict` calls --labels.",
        default=None,
        metavar="FILE",
        group="Models without a contract",
    )
    seed: int = option("Seed of the intervals' random draws.", default=0, least=0, most=2**32 - 1, group="Output")
