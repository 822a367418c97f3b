"""A folder with what the examples of README and docs name, and their server."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from docs.examples import lay_out
from tests.web_server import Web


@pytest.fixture(scope="session")
def laid_out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the examples name, and the model that README's first command trains, all by its defaults."""
    folder = tmp_path_factory.mktemp("laid_out")
    lay_out(folder, per_class=8)
    return folder


CONFIG = """
model_config_list {{
  config {{ name: "dogs" base_path: "{dogs}" model_platform: "tensorflow" }}
  config {{ name: "net" base_path: "{net}" model_platform: "tensorflow" }}
}}
"""


def write_plain_model(folder: Path) -> None:
    """Writes a model without a contract, as docs/plain-models.md has it: logits of two labels for 320 x 240 pixels."""
    import tensorflow as tf

    module = tf.Module()
    module.weights = tf.Variable([[2.0, -1.0], [0.5, 1.0], [-1.0, 2.0]])
    images = tf.TensorSpec([None, 240, 320, 3], tf.float32, name="images")
    answer = tf.function(lambda images: {"logits": tf.reduce_mean(images, [1, 2]) @ module.weights})
    tf.saved_model.save(module, str(folder / "1"), signatures=answer.get_concrete_function(images))


@pytest.fixture(scope="session")
def world(laid_out: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A copy of that folder, in which examples may write, and the address of a server of `dogs` and `net`."""
    from serving.server import EmbeddedServer, ServerOptions

    folder = tmp_path_factory.mktemp("world") / "home"
    shutil.copytree(laid_out, folder)
    photos = {f"/{image.name}": image.read_bytes() for image in list((folder / "photos").iterdir())[:3]}
    write_plain_model(folder.parent / "net")
    (folder / "labels.txt").write_text("reddish\nbluish\n")
    config = folder.parent / "models.config"
    config.write_text(CONFIG.format(dogs=laid_out / "models" / "dogs", net=folder.parent / "net"))
    options = ServerOptions(model_config_file=str(config), port=-1, host="127.0.0.1")
    with EmbeddedServer(options=options) as running, Web(photos) as web:
        (folder / "urls.txt").write_text("".join(f"{web.url}{name}\n" for name in photos))
        yield folder, running.address
