"""Quick imports leave the process as it was."""

import gc
import importlib
import sys

import pytest

from serving.process.quick_import import left_out, no_collection


def test_collections_go_on_afterwards() -> None:
    with no_collection():
        assert not gc.isenabled()
    assert gc.isenabled()
    gc.disable()
    try:
        with no_collection():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_a_module_is_left_out_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "this", raising=False)
    with left_out("this", "json"):
        importlib.import_module("json")  # which is there already
        with pytest.raises(ModuleNotFoundError):
            importlib.import_module("this")
    assert "this" not in sys.modules
    assert importlib.import_module("this").__name__ == "this"
