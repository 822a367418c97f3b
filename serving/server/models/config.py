"""Which models are served, from which folder, which versions of them, and their labels: ModelServerConfig, checked.

Each check goes over all entries before the next does:

| A model's entry | is refused with INVALID_ARGUMENT |
| --- | --- |
| a name twice | `Illegal to list model <m> multiple times in config list` |
| a relative path | `Expected model <m> to have an absolute path or URI; got base_path()=<p>` |
| platform and type both or neither | `Illegal setting both|neither …` |
| the type OTHER | `ModelServerConfig::model_type choice 2 not supported.` |
| another platform than before | `Illegal to change a model's platform. …` |
| a platform but tensorflow | `Model <m> requests unsupported platform <p>` |
"""

import dataclasses
import logging
import os
from collections.abc import Collection, Mapping, Sequence
from typing import TypeAlias

import tensorflow as tf
from tensorflow_serving.config import file_system_storage_path_source_pb2, model_server_config_pb2

from serving.model_store.versions import version_number
from serving.server.models import textprotos
from serving.server.rpc.status_error import invalid_argument
from serving.server.run.server_options import ServerOptions

_PLATFORM = "tensorflow"
Policy: TypeAlias = file_system_storage_path_source_pb2.FileSystemStoragePathSourceConfig.ServableVersionPolicy
log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """One model: `base_path` holds its version folders, `policy` chooses among them."""

    name: str
    base_path: str
    policy: Policy
    labels: Mapping[str, int]

    def choose(self, on_disk: Mapping[int, str]) -> dict[int, str]:
        """The versions to serve, version to folder, of those on disk."""
        kind = self.policy.WhichOneof("policy_choice")
        if kind == "all":
            return dict(on_disk)
        if kind == "specific":
            wanted = set(self.policy.specific.versions)
            for version in sorted(wanted - set(on_disk)):
                log.warning("Version %d of servable %s, which was requested to be served", version, self.name)
            return {version: path for version, path in on_disk.items() if version in wanted}
        latest = sorted(on_disk, reverse=True)[: self.policy.latest.num_versions or 1]
        return {version: on_disk[version] for version in latest}


def versions_on_disk(base_path: str) -> dict[int, str]:
    """The children of `base_path` whose whole name is an integer, version to folder.

    Raises:
      OSError or tf.errors.OpError: the folder is not there.
    """
    remote = "://" in base_path
    names = tf.io.gfile.listdir(base_path) if remote else os.listdir(base_path)
    found: dict[int, str] = {}
    for name in sorted(child.rstrip("/") for child in names):
        number = version_number(name)
        if number is None:
            continue
        if number in found:
            log.warning("Duplicate version %s in %s", name, base_path)
        found[number] = f"{base_path.rstrip('/')}/{name}"
    return found


def read(options: ServerOptions) -> model_server_config_pb2.ModelServerConfig:
    """The config that the flags name: the file, or the one model of --model_name and --model_base_path."""
    config = model_server_config_pb2.ModelServerConfig()
    if options.model_config_file:
        textprotos.read(options.model_config_file, config)
        return config
    config.model_config_list.config.add(
        name=options.model_name, base_path=options.model_base_path, model_platform=_PLATFORM
    )
    return config


def check(config: model_server_config_pb2.ModelServerConfig, known: Collection[str] = ()) -> dict[str, ModelConfig]:
    """The models of a config by name.

    Args:
      config: the file's or the request's.
      known: the names of the models that are configured already.

    Raises:
      StatusError: INVALID_ARGUMENT, see the table above.
    """
    if config.WhichOneof("config") == "custom_model_config":
        raise invalid_argument("ModelServer does not yet support custom model config.")
    return _models(config.model_config_list.config, known)


def _models(entries: Sequence[model_server_config_pb2.ModelConfig], known: Collection[str]) -> dict[str, ModelConfig]:
    models: dict[str, ModelConfig] = {}
    for entry in entries:
        if entry.name in models:
            raise invalid_argument(f"Illegal to list model {entry.name} multiple times in config list")
        models[entry.name] = ModelConfig(
            name=entry.name,
            base_path=entry.base_path,
            policy=entry.model_version_policy,
            labels=dict(entry.version_labels),
        )
    for entry in entries:
        if not ("://" in entry.base_path or entry.base_path.startswith("/")):
            raise invalid_argument(
                f"Expected model {entry.name} to have an absolute path or URI; got base_path()={entry.base_path}"
            )
    for entry in entries:
        if entry.name in known and _platform(entry) != _PLATFORM:
            raise invalid_argument(
                f"Illegal to change a model's platform. For model {entry.name} platform was {_PLATFORM} "
                f"and new platform requested is {_platform(entry)}"
            )
    for entry in entries:
        if _platform(entry) != _PLATFORM:
            raise invalid_argument(f"Model {entry.name} requests unsupported platform {_platform(entry)}")
    return models


def _platform(entry: model_server_config_pb2.ModelConfig) -> str:
    if entry.model_type and entry.model_platform:
        raise invalid_argument(
            "Illegal setting both ModelServerConfig::model_type (deprecated) and ModelServerConfig::model_platform."
        )
    if entry.model_type:
        if entry.model_type != model_server_config_pb2.TENSORFLOW:
            raise invalid_argument(f"ModelServerConfig::model_type choice {entry.model_type} not supported.")
        return _PLATFORM
    if not entry.model_platform:
        raise invalid_argument(
            "Illegal setting neither ModelServerConfig::model_type (deprecated) nor ModelServerConfig::model_platform."
        )
    return str(entry.model_platform)
