"""Copying the newest versions of a model from a bucket."""

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from k8s.pods import sync_models
from serving.errors import FlowImagesError
from serving.model_store.fetch import ASIDE
from serving.storage.stores import Stores


def _publish(store: Any, version: str, *files: str) -> None:
    for file in files or ("variables/variables.index", "saved_model.pb"):
        store.put_object(Bucket="bucket", Key=f"models/dogs/{version}/{file}", Body=f"{version} {file}".encode())


def test_the_newest_whole_versions_are_copied(store: Any, tmp_path: Path) -> None:
    for version in ("1", "2", "10"):
        _publish(store, version)
    _publish(store, "11", "variables/variables.index")  # Still being published.
    _publish(store, "notes")
    _publish(store, "1/assets", "breeds.txt")
    assert sync_models.sync(Stores()("s3://bucket"), "s3://bucket/models/dogs", tmp_path, keep=2) == [10, 2]
    folder = tmp_path / "dogs"
    assert sorted(p.name for p in folder.iterdir()) == ["10", "2"]
    assert (folder / "10/variables/variables.index").read_text() == "10 variables/variables.index"
    assert sync_models.sync(Stores()("s3://bucket"), "s3://bucket/models/dogs", tmp_path, keep=2) == []
    _publish(store, "11", "saved_model.pb")
    assert sync_models.sync(Stores()("s3://bucket"), "s3://bucket/models/dogs", tmp_path, keep=2) == [11]
    assert sorted(p.name for p in folder.iterdir()) == ["10", "11"]


def test_a_pinned_version_stays_however_many_are_newer(store: Any, tmp_path: Path) -> None:
    for version in ("1", "2", "3"):
        _publish(store, version)
    assert sync_models.sync(Stores()("s3://bucket"), "s3://bucket/models/dogs", tmp_path, keep=2, pinned=1) == [1, 3, 2]
    _publish(store, "4")
    assert sync_models.sync(Stores()("s3://bucket"), "s3://bucket/models/dogs", tmp_path, keep=2, pinned=1) == [4]
    assert sorted(p.name for p in (tmp_path / "dogs").iterdir()) == ["1", "3", "4"]
    assert sync_models.sync(Stores()("s3://bucket"), "s3://bucket/models/dogs", tmp_path, keep=2, pinned=9) == []
    assert sorted(p.name for p in (tmp_path / "dogs").iterdir()) == ["3", "4"]


def test_an_empty_source_takes_no_model_away(store: Any, tmp_path: Path) -> None:
    _publish(store, "1")
    sync_models.sync(Stores()("s3://bucket"), "s3://bucket/models/dogs", tmp_path, keep=2)
    assert sync_models.sync(Stores()("s3://bucket"), "s3://bucket/models/cats", tmp_path, keep=2) == []
    store.delete_object(Bucket="bucket", Key="models/dogs/1/saved_model.pb")
    assert sync_models.sync(Stores()("s3://bucket"), "s3://bucket/models/dogs", tmp_path, keep=2) == []
    assert (tmp_path / "dogs/1/saved_model.pb").exists()


def test_an_interrupted_copy_leaves_nothing_behind(store: Any, tmp_path: Path) -> None:
    _publish(store, "1")
    (tmp_path / "dogs" / ASIDE / "variables").mkdir(parents=True)
    (tmp_path / "dogs" / ASIDE / "variables/stale").touch()
    sync_models.sync(Stores()("s3://bucket"), "s3://bucket/models/dogs", tmp_path, keep=2)
    assert [path.name for path in (tmp_path / "dogs").iterdir()] == ["1"]
    assert not (tmp_path / "dogs/1/variables/stale").exists()


def test_a_key_cannot_lead_out_of_the_folder(store: Any, tmp_path: Path) -> None:
    _publish(store, "1", "saved_model.pb", "../../../evil")
    with pytest.raises(FlowImagesError, match="outside"):
        sync_models.sync(Stores()("s3://bucket"), "s3://bucket/models/dogs", tmp_path / "in", keep=1)
    assert not (tmp_path / "evil").exists()


def test_sync_once_by_the_command(store: Any, tmp_path: Path) -> None:
    _publish(store, "5")
    arguments = ["--source=s3://bucket/models/dogs", f"--target={tmp_path}"]
    done = CliRunner().invoke(sync_models.main, arguments)
    assert (done.exit_code, done.output) == (0, "copied version 5\n")
    wrong = CliRunner().invoke(sync_models.main, ["--source=s3://bucket", f"--target={tmp_path}"])
    assert wrong.exit_code == 2
    gone = CliRunner().invoke(sync_models.main, ["--source=s3://nobody/models/dogs", f"--target={tmp_path}"])
    assert gone.exit_code == 2
    assert "s3://nobody/models/dogs: there is no bucket 'nobody'" in gone.output
    _publish(store, "6", "saved_model.pb", "../../../evil")
    hostile = CliRunner().invoke(sync_models.main, arguments)
    assert (hostile.exit_code, "outside" in hostile.output) == (1, True)
