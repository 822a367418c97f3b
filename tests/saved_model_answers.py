"""What SavedModels answer, by whichever TensorFlow runs this file; it needs nothing else of the project.

    python saved_model_answers.py QUESTIONS ANSWERS

Both are pickles: of each folder and signature the inputs by name, and the outputs by name.
"""

import ctypes
import pickle
import sys
from pathlib import Path
from typing import Any

import tensorflow as tf

Tensors = dict[str, dict[str, dict[str, Any]]]
"""Folder → signature → name of an input or output → values."""


def answers(questions: Tensors) -> Tensors:
    """Asks each signature in a session over the graph, as TensorFlow Serving does."""
    found: Tensors = {}
    for folder, signatures in questions.items():
        load_in_cpp(folder)
        with tf.Graph().as_default(), tf.compat.v1.Session() as session:
            defined = tf.compat.v1.saved_model.load(session, ["serve"], folder).signature_def
            found[folder] = {
                name: session.run(
                    {output: info.name for output, info in defined[name].outputs.items()},
                    {defined[name].inputs[key].name: value for key, value in inputs.items()},
                )
                for name, inputs in signatures.items()
            }
    return found


def load_in_cpp(folder: str) -> None:
    """Loads a version by the loader in C++, which TensorFlow Serving has; it is stricter than Python's.

    Raises:
      RuntimeError: it does not load.
    """
    library = ctypes.CDLL(str(Path(tf.__file__).with_name("libtensorflow_cc.so.2")))
    for name in ("NewStatus", "NewSessionOptions", "NewGraph", "LoadSessionFromSavedModel"):
        getattr(library, f"TF_{name}").restype = ctypes.c_void_p
    library.TF_Message.restype = ctypes.c_char_p
    status = ctypes.c_void_p(library.TF_NewStatus())
    options, graph = ctypes.c_void_p(library.TF_NewSessionOptions()), ctypes.c_void_p(library.TF_NewGraph())
    tags = (ctypes.c_char_p * 1)(b"serve")
    session = library.TF_LoadSessionFromSavedModel(options, None, folder.encode(), tags, 1, graph, None, status)
    if library.TF_GetCode(status):
        raise RuntimeError(library.TF_Message(status).decode())
    library.TF_DeleteSession(ctypes.c_void_p(session), status)


if __name__ == "__main__":
    asked: Tensors = pickle.loads(Path(sys.argv[1]).read_bytes())
    Path(sys.argv[2]).write_bytes(pickle.dumps(answers(asked)))
