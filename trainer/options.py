"""What a user decides about a training. Nothing heavy is imported, as --help is made of it."""

from typing import Literal

from serving.model_store.versions import HIGHEST_VERSION
from serving.option_fields import Options, option, options_class

MODEL_URL = "https://tfhub.dev/google/imagenet/mobilenet_v2_130_224/classification/5"
HIGHEST_SEED = 2**32 - 1
"""NumPy's generator takes no more."""
MOST_EPOCHS = 100_000
HEAD_EPOCHS = 200
"""The most epochs of a head, where nothing stops it earlier; one on cached features takes milliseconds."""
FINE_TUNE_EPOCHS = 10
FINE_TUNE_RATE = 1e-4
"""Small, so that the first steps don't undo what the module knows."""
AUGMENT_RATE = 1e-3
"""The learning rate of a head that is trained on augmented images, with the module frozen."""


@options_class
class TrainOptions(Options):
    """How a model is trained."""

    hub_model: str = option(
        "TF Hub URL, Kaggle handle (OWNER/MODEL/FRAMEWORK/VARIATION/VERSION), SavedModel folder or .tar.gz: code that "
        "will be run, so from a source you trust.",
        default=MODEL_URL,
        metavar="URL|HANDLE|PATH",
        default_words=MODEL_URL.removeprefix("https://"),
    )
    epochs: int | None = option(
        "Passes over the training images.",
        default=None,
        least=1,
        most=MOST_EPOCHS,
        default_words=f"until the validation loss stops falling, at most {HEAD_EPOCHS}; {FINE_TUNE_EPOCHS} with "
        "--fine-tune or --augment",
    )
    batch_size: int = option("Images a step.", default=32, least=1, most=4096)
    learning_rate: float | None = option(
        "Learning rate of Adam, the optimizer.",
        default=None,
        least=1e-9,
        most=1,
        default_words=f"chosen by cross-validation; {FINE_TUNE_RATE} with --fine-tune, {AUGMENT_RATE} with --augment",
    )
    weight_decay: float | None = option(
        "Weight decay of the head, decoupled from the gradient.",
        default=None,
        least=0,
        most=1,
        default_words="chosen by cross-validation",
    )
    dropout: float | None = option(
        "Share of the features that the head doesn't see in a step.",
        default=None,
        least=0,
        most=0.95,
        default_words="chosen by cross-validation",
    )
    class_weights: Literal["none", "balanced"] = option(
        "balanced: each class counts the same in the loss, however many images it has.", default="none"
    )
    image_size: int | None = option(
        "Height and width in pixels, as the hub module takes them.",
        default=None,
        least=1,
        most=8192,
        default_words="the hub module's, or 224 if it takes any",
    )
    value_range: Literal["0..1", "-1..1", "0..255"] = option(
        "What the hub module wants black and white to be.", default="0..1"
    )
    orientation: Literal["ignore", "exif"] = option(
        "exif: turn images upright by their EXIF tag, here and in every prediction.", default="ignore"
    )
    validation_share: float = option(
        "Share of each class that chooses: when to stop, the temperature, the threshold.",
        default=0.15,
        least=0,
        most=0.5,
        is_open=True,
    )
    test_share: float = option(
        "Share of each class that judges: it is seen once, at the end.", default=0.15, least=0, most=0.5, is_open=True
    )
    seed: int = option("Seed of the split, the order and the first weights.", default=0, least=0, most=HIGHEST_SEED)
    fine_tune: bool = option("Train the hub module's weights, too, from the trained head on: slower.", default=False)
    train_batch_norm: bool = option(
        "With --fine-tune: let batch normalization learn from your images; only with many images a step.",
        default=False,
    )
    augment: bool = option("Flip, crop and recolour the images that are trained on: slower.", default=False)
    mixed_precision: bool = option("Compute in 16 bits with --fine-tune or --augment, on GPUs that do.", default=False)


@options_class
class TrainJob(TrainOptions):
    """The options of `flow-images train`: the images, how to train, and where the model goes."""

    labels: str | None = option(
        "Kaggle's labels.csv (id,breed), or a CSV with path,label; on a disk or in a bucket. A column split "
        "(training, validation, test) says where an image belongs; other columns are slices to measure.",
        default=None,
        metavar="CSV",
    )
    images: str | None = option(
        "With id,breed: the folder of <id>.jpg, on a disk or in a bucket.", default=None, metavar="FOLDER"
    )
    folder: str | None = option(
        "Instead: a folder with one folder of images a class, or with train/CLASS, validation/CLASS and test/CLASS; on "
        "a disk or in a bucket.",
        default=None,
        metavar="FOLDER",
    )
    skip_bad: bool = option("Leave out images and classes that can't be used, and list them.", default=False)
    model_store: str = option(
        "Folder of all models, on a disk or in a bucket; the model becomes STORE/NAME/VERSION.", metavar="FOLDER"
    )
    name: str = option("Name of the model.")
    version: int | None = option(
        "Version, an integer.",
        default=None,
        least=0,
        most=HIGHEST_VERSION,
        default_words="seconds since 1970, above all others",
    )
    min_accuracy: float | None = option(
        "Gate: publish nothing if the accuracy on the test images is below this.", default=None, least=0, most=1
    )
    min_lift: float | None = option(
        "Gate: publish nothing if the test accuracy is not this much above that of a model trained on shuffled labels.",
        default=None,
        least=0,
        most=1,
    )
    max_regression: float | None = option(
        "Gate: publish nothing if the test accuracy is more than this below that of the version in service, the "
        "highest of STORE/NAME, on the same images.",
        default=None,
        least=0,
        most=1,
    )
    min_slice_accuracy: float | None = option(
        "Gate: publish nothing if a class, or a value of a slice column, with at least 10 test images is below this.",
        default=None,
        least=0,
        most=1,
    )
    target_precision: float = option(
        "Precision, on the validation images, of the answers at or above the threshold that the model carries.",
        default=0.95,
        least=0,
        most=1,
        is_open=True,
    )
    groups: str | None = option(
        "CSV with label,group: the coarser group of each class, for jobs that are unsure of the class.",
        default=None,
        metavar="CSV",
    )
    golden: Literal["drawn", "photos"] = option(
        "Images by which a job checks a server, part of the model: drawn ones, or validation images of yours.",
        default="drawn",
    )
    no_thumbnails: bool = option(
        "Show no images in report.html, which is part of the version folder and goes where the model goes.",
        default=False,
    )
    report: str | None = option(
        "Folder for a copy of report.html and the files that belong to it, also if nothing is published.",
        default=None,
        metavar="FOLDER",
        default_words="the version folder; the working folder if nothing is published",
    )
    tensorboard: str | None = option("Folder for TensorBoard's logs.", default=None, metavar="FOLDER")
    work_folder: str | None = option(
        "Folder for features and checkpoints, from which the same command goes on after a kill.",
        default=None,
        metavar="FOLDER",
        variable="FLOW_IMAGES_WORK_FOLDER",
        default_words="a folder in the user's cache, removed once the model is published",
    )
