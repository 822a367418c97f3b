"""Tests mirror the modules by name: what tests serving/client/scores.py is tests/serving/client/test_scores.py."""

from pathlib import Path

from tests.test_imports import MAY_IMPORT, ROOT

# What tests more than one module, or one from outside, and why it has a name of its own.
OF_MANY = {
    "beam_jobs": set[str](),
    "flow_images": {
        "test_commands",  # the commands in the docs
        "test_notebook",  # the code in the docs, in a notebook
        "test_exports",  # what `import flow_images` gives
        "test_predict_and_train",  # the library's two runs
        "test_snippets",  # the code in the docs
    },
    "k8s": {
        "test_by_hand",  # `make cluster`
        "test_control_plane",  # the client and the manifests on a real control plane
        "test_manifests",  # YAML has no module
        "test_serving_pod",
        "test_network_policies",  # who reaches whom on a real node
        "test_others",  # among other people's objects
        "test_pods",  # on a real node
    },
    "serving": {
        "network/test_reaching",  # every way in which no server is reached
        "storage/test_every_store",  # one suite on every store
        "storage/test_large_listings",  # 100,000 keys, in each store
        "server/test_hostile",  # all ports, by clients that mean harm
        "server/test_main",  # `python -m serving.server`
        "server/test_stopping",  # signals at every moment
    },
    "trainer": {
        "test_older_tensorflow",  # what is exported, in the versions of TensorFlow Serving's images
        "test_signals",  # the commands at each stage
    },
}


def test_each_test_module_has_a_module_of_its_name() -> None:
    found = 0
    for package in MAY_IMPORT:
        for path in sorted((ROOT / "tests" / package).rglob("test_*.py")):
            inside = path.relative_to(ROOT / "tests" / package)
            module = ROOT / package / inside.parent / inside.name.removeprefix("test_")
            if inside.with_suffix("").as_posix() not in OF_MANY[package]:
                exists = module.exists() or (module.with_suffix("") / "__init__.py").exists()
                assert exists, f"{path.relative_to(ROOT)}: of which module?"
            found += 1
    assert found > 50


def test_the_exceptions_are_there() -> None:
    for package, names in OF_MANY.items():
        for name in names:
            assert Path(ROOT, "tests", package, name + ".py").exists(), name
