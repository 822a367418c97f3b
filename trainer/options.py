"""What a user decides about a training. Nothing heavy is imported, as --help is made of it."""

from typing import TYPE_CHECKING, Literal

from serving.model_store.versions import HIGHEST_VERSION
from serving.option_fields import Options, option, options_class

if TYPE_CHECKING:
    from serving.contract import Preprocessing

MODEL_URL = "https://tfhub.dev/google/imagenet/mobilenet_v2_130_224/classification/5"
HIGHEST_SEED = 2**32 - 1
"""NumPy's generator takes no more."""
MOST_EPOCHS = 100_000
HEAD_RATE = 3e-3
"""Learning rate of the head. In six-fold cross-validation on 150 photos of 25 breeds with MobileNetV2, 1e-3 and 3e-3
reached 0.85 and 0.86 after 15 epochs, 1e-2 only 0.82."""
FINE_TUNE_RATE = 1e-4
"""Small, so that the first steps of an untrained head don't undo what the module knows."""


@options_class
class TrainOptions(Options):
    """How a model is trained."""

    hub_model: str = option(
        "TF Hub URL, SavedModel folder or .tar.gz: code that will be run, so from a source you trust.",
        default=MODEL_URL,
        metavar="URL|PATH",
        default_words=MODEL_URL.removeprefix("https://"),
    )
    epochs: int = option("Passes over the training images.", default=15, least=1, most=MOST_EPOCHS)
    batch_size: int = option("Images a step.", default=32, least=1, most=4096)
    learning_rate: float | None = option(
        "Of Adam.",
        default=None,
        least=1e-9,
        most=1,
        default_words=f"{HEAD_RATE}; {FINE_TUNE_RATE} with --fine-tune",
    )
    image_size: int = option(
        "Height and width in pixels, as the hub module takes them.", default=224, least=1, most=8192
    )
    orientation: Literal["ignore", "exif"] = option(
        "exif: turn images upright by their EXIF tag, here and in every prediction.", default="ignore"
    )
    validation_share: float = option(
        "Share of each class that is not trained on, but measures the accuracy.",
        default=0.2,
        least=0,
        most=1,
        is_open=True,
    )
    seed: int = option("Of the split, the order and the first weights.", default=0, least=0, most=HIGHEST_SEED)
    fine_tune: bool = option("Train the hub module's weights, too: slower.", default=False)

    @property
    def rate(self) -> float:
        """The learning rate to use."""
        return self.learning_rate or (FINE_TUNE_RATE if self.fine_tune else HEAD_RATE)

    def preprocessing(self) -> "Preprocessing":
        """The model's preprocessing."""
        from serving.contract import Preprocessing

        return Preprocessing(height=self.image_size, width=self.image_size, orientation=self.orientation)


@options_class
class TrainJob(TrainOptions):
    """The options of `flow-images train`: the images, how to train, and where the model goes."""

    labels: str | None = option(
        "Kaggle's labels.csv (id,breed), or a CSV with path,label; on a disk or in a bucket.",
        default=None,
        metavar="CSV",
    )
    images: str | None = option(
        "With id,breed: the folder of <id>.jpg, on a disk or in a bucket.", default=None, metavar="FOLDER"
    )
    folder: str | None = option(
        "Instead: a folder with one folder of images a class, on a disk or in a bucket.", default=None, metavar="FOLDER"
    )
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
    assert_accuracy: float = option(
        "Publish nothing, and exit with 1, if the validation accuracy is below.", default=0.0, least=0, most=1
    )
