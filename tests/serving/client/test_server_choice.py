"""What a connection knows of its model without asking a server."""

from pathlib import Path

from serving.client.client_options import ConnectionOptions
from serving.client.server_choice import Connection


def test_the_newest_version_of_a_model_folder(tmp_path: Path) -> None:
    for version in ("3", "12"):
        (tmp_path / "dogs" / version).mkdir(parents=True)
        (tmp_path / "dogs" / version / "saved_model.pb").touch()
    (tmp_path / "dogs" / "13").mkdir()  # which is still being published
    assert Connection(ConnectionOptions(model=str(tmp_path / "dogs"))).newest_version() == 12
    assert Connection(ConnectionOptions(model=str(tmp_path / "dogs"), model_version=3)).newest_version() == 12
    assert Connection(ConnectionOptions(server="localhost:8500", model_name="dogs")).newest_version() is None
