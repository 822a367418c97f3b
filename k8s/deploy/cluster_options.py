"""The options that say which cluster, as kubectl spells them, and the connection that they make."""

import re
import shlex
from typing import TYPE_CHECKING

from serving.console.option_fields import Options, option, options_class

if TYPE_CHECKING:
    from k8s.deploy.cluster import Cluster

_LONGEST_LABEL = 63


def object_name(text: str, most: int = _LONGEST_LABEL) -> str:
    """The text, if an object of Kubernetes may have it as its name; empty text stands for none.

    Raises:
      ValueError: it may not.
    """
    if text and not (len(text) <= most and re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", text)):
        raise ValueError(f"expected up to {most} lower case letters, digits and '-'")
    return text


def job_name(text: str) -> str:
    """`object_name` for a Job: its pods add their index and more to it, and all must fit into a label."""
    return object_name(text, most=52)


@options_class
class ClusterOptions(Options, group="Cluster"):
    """Which cluster, and which namespace in it."""

    kubeconfig: str | None = option("The kubeconfig.", default=None, metavar="FILE", default_words="as for kubectl")
    context: str | None = option(
        "The kubeconfig's context.", default=None, metavar="NAME", default_words="the current one"
    )
    namespace: str | None = option(
        "The namespace.",
        default=None,
        short="-n",
        metavar="NAME",
        parse=object_name,
        default_words="the manifests' own, which is flow-images",
    )

    def connect(self, namespace: str | None = None) -> "Cluster":
        """The cluster; its namespace is the option's, else the one given here, else flow-images."""
        from k8s.deploy.cluster import Cluster

        namespace = self.namespace or namespace or "flow-images"
        return Cluster(context=self.context, kubeconfig=self.kubeconfig, namespace=namespace)

    def flags(self, namespace: str | None = None) -> str:
        """The options as they were given, for a command that somebody is to type."""
        values = {"namespace": namespace or self.namespace, "context": self.context, "kubeconfig": self.kubeconfig}
        return "".join(f" --{name}={shlex.quote(value)}" for name, value in values.items() if value)
