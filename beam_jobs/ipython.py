"""Apache Beam in IPython, and so in notebooks: its interactive runner is not imported where it can't be.

In IPython, Beam 2.77 imports its interactive runner for each step of a pipeline, only to write the number of the cell
before the step's name (`apache_beam.utils.interactive_utils`). That runner needs pandas below version 3, which
`apache-beam` does not install.
"""

import importlib
import sys


def name_steps_without_interactive_runner() -> None:
    """Lets Beam name steps in IPython as it does elsewhere, if its interactive runner can't be imported here.

    Does nothing outside of IPython, or where the interactive runner works.
    """
    if "IPython" not in sys.modules:
        return
    import apache_beam.pipeline

    try:
        importlib.import_module("apache_beam.runners.interactive.interactive_environment")
    except Exception:  # no pandas, or one with another API
        apache_beam.pipeline.alter_label_if_ipython = lambda transform, pvalueish: None
