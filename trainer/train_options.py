"""What a user decides about a training. Nothing heavy is imported, as --help is made of it."""

from typing import Literal

from serving.console.option_fields import Options, option, options_class
from serving.model_store.versions import HIGHEST_VERSION

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
class TrainOptions(Options, group="Training"):
    """How a model is trained."""

    hub_model: str = option(
        "TF Hub URL, Kaggle handle, SavedModel folder or .tar.gz. It is code that will be run: take it from a source "
        "you trust.",
        more=f"A Kaggle handle is OWNER/MODEL/FRAMEWORK/VARIATION/VERSION. By default: {MODEL_URL}.",
        group="Model",
        default=MODEL_URL,
        metavar="MODULE",
        default_words="MobileNet V2, trained on ImageNet",
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
        metavar="SHARE",
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
        group="Model",
        metavar="PIXELS",
        default=None,
        least=1,
        most=8192,
        default_words="the hub module's, or 224 if it takes any",
    )
    value_range: Literal["0..1", "-1..1", "0..255"] = option(
        "What the hub module wants black and white to be.", default="0..1", group="Model"
    )
    orientation: Literal["ignore", "exif"] = option(
        "exif: turn images upright by their EXIF tag, here and in every prediction.", default="ignore", group="Model"
    )
    validation_share: float = option(
        "Share of each class that decides when training stops, and the temperature and threshold.",
        group="Input",
        metavar="SHARE",
        default=0.15,
        least=0,
        most=0.5,
        is_open=True,
    )
    test_share: float = option(
        "Share of each class that the trained model is measured on, once, at the end.",
        group="Input",
        metavar="SHARE",
        default=0.15,
        least=0,
        most=0.5,
        is_open=True,
    )
    seed: int = option(
        "Seed of the split, of the order and of the first weights.", default=0, least=0, most=HIGHEST_SEED
    )
    fine_tune: bool = option(
        "Train the hub module's weights, too: slower.", more="From the trained head on.", default=False
    )
    train_batch_norm: bool = option(
        "With --fine-tune: let batch normalization learn, too.",
        more="From your images; only with many of them a step.",
        default=False,
    )
    augment: bool = option("Flip, crop and recolour the training images: slower.", default=False)
    mixed_precision: bool = option(
        "Compute in 16 bits, on GPUs that do.", more="With --fine-tune or --augment.", default=False
    )


@options_class
class TrainJob(TrainOptions, group="Output"):
    """The options of `flow-images train`: the images, how to train, and where the model goes."""

    labels: str | None = option(
        "Kaggle's labels.csv (id,breed), or a CSV with path,label; on a disk or in a bucket.",
        more="A column split (training, validation, test) says where an image belongs; other columns are slices to "
        "measure.",
        group="Input",
        default=None,
        metavar="CSV",
    )
    images: str | None = option(
        "With id,breed: the folder of <id>.jpg.",
        more="On a disk or in a bucket.",
        group="Input",
        default=None,
        metavar="FOLDER",
    )
    folder: str | None = option(
        "Instead of --labels: a folder with one folder of images a class.",
        more="Or with train/CLASS, validation/CLASS and test/CLASS; on a disk or in a bucket.",
        group="Input",
        default=None,
        metavar="FOLDER",
    )
    skip_bad: bool = option(
        "Leave out images and classes that can't be used, and list them.", default=False, group="Input"
    )
    model_store: str = option(
        "Folder of all models, on a disk or in a bucket; the model becomes STORE/NAME/VERSION.", metavar="FOLDER"
    )
    name: str = option("Name of the model.", metavar="NAME")
    version: int | None = option(
        "Version, an integer.",
        default=None,
        least=0,
        most=HIGHEST_VERSION,
        default_words="the time in seconds since 1970, or one above the highest that is there",
    )
    min_accuracy: float | None = option(
        "Least accuracy on the test images.", group="Gates", metavar="SHARE", default=None, least=0, most=1
    )
    min_lift: float | None = option(
        "How much the test accuracy must be above that of a model trained on shuffled labels.",
        group="Gates",
        metavar="SHARE",
        default=None,
        least=0,
        most=1,
    )
    max_regression: float | None = option(
        "How much the test accuracy may be below that of the version in service, on the same images.",
        more="In service is the highest version of STORE/NAME.",
        group="Gates",
        metavar="SHARE",
        default=None,
        least=0,
        most=1,
    )
    min_slice_accuracy: float | None = option(
        "Least accuracy of each class, and of each value of a slice column, with at least 10 test images.",
        group="Gates",
        metavar="SHARE",
        default=None,
        least=0,
        most=1,
    )
    target_precision: float = option(
        "Precision, on the validation images, of the answers at or above the threshold that the model carries.",
        metavar="SHARE",
        default=0.95,
        least=0,
        most=1,
        is_open=True,
    )
    groups: str | None = option(
        "CSV with label,group: the coarser group of each class, for jobs that are unsure of the class.",
        group="Input",
        default=None,
        metavar="CSV",
    )
    golden: Literal["drawn", "photos"] = option(
        "Images in the model by which a job checks a server: drawn ones, or validation images of yours.",
        default="drawn",
    )
    no_thumbnails: bool = option(
        "Show no images in report.html.",
        more="It is part of the version folder and goes where the model goes.",
        default=False,
    )
    report: str | None = option(
        "Folder for a copy of report.html and its files, also if nothing is published.",
        default=None,
        metavar="FOLDER",
        default_words="the version folder; the working folder if nothing is published",
    )
    tensorboard: str | None = option("Folder for TensorBoard's logs.", default=None, metavar="FOLDER")
    work_folder: str | None = option(
        "Folder for features and checkpoints, with which the same command continues after a kill.",
        default=None,
        metavar="FOLDER",
        variable="FLOW_IMAGES_WORK_FOLDER",
        default_words="a folder in the user's cache, removed once the model is published",
    )
