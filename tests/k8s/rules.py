"""What must hold for our manifests that neither the API server nor a linter looks at.

Each rule takes all objects of a build and yields one sentence for each breach; `breaches` runs every rule.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any

from serving.network.retry import RetryPolicy
from tests.k8s.builds import Object

Rule = Callable[[list[Object]], Iterator[str]]
RULES: list[Rule] = []

GIVEN_BY_JOBS = {"JOB_COMPLETION_INDEX"}
RERUN_WONT_HELP = {"train": {1, 2, 4}, "predict": {1, 2, 3}}
WRITABLE = {("train", "models"), ("train", "images"), ("predict", "output"), ("sync", "models")}
"""Which container may write where, besides its own /tmp; `images` only while they are a copy on the node."""


def breaches(objects: list[Object]) -> list[str]:
    """Every breach of every rule."""
    return [breach for rule in RULES for breach in rule(objects)]


def rule(function: Rule) -> Rule:
    """Adds a rule to those that `breaches` runs."""
    RULES.append(function)
    return function


def workloads(objects: list[Object]) -> Iterator[tuple[str, Object, Object]]:
    """(name, object, pod template) of everything that makes pods."""
    for o in objects:
        if template := o.get("spec", {}).get("template"):
            yield o["metadata"]["name"], o, template
        if o["kind"] == "DaskCluster":
            yield from _dask_pods(o)


def _dask_pods(cluster: Object) -> Iterator[tuple[str, Object, Object]]:
    """The pods that the Dask operator makes for a cluster, with the labels that it adds."""
    name = cluster["metadata"]["name"]
    for component in ("scheduler", "worker"):
        spec = cluster["spec"][component]
        added = {"dask.org/cluster-name": name, "dask.org/component": component}
        yield f"{name}-{component}", cluster, {"metadata": {"labels": spec["metadata"]["labels"] | added}, **spec}


def containers(template: Object) -> Iterator[Object]:
    """All containers of a pod template, those that run first included."""
    yield from template["spec"].get("initContainers", [])
    yield from template["spec"]["containers"]


def each_container(objects: list[Object]) -> Iterator[tuple[str, Object, Object]]:
    """("workload/container", container, pod template)."""
    for name, _, template in workloads(objects):
        for container in containers(template):
            yield f"{name}/{container['name']}", container, template


def named(objects: list[Object], kind: str) -> dict[str, Object]:
    """The objects of one kind by name."""
    return {o["metadata"]["name"]: o for o in objects if o["kind"] == kind}


def selects(selector: dict[str, str], labels: dict[str, str]) -> bool:
    """Whether a label selector without expressions takes an object with these labels."""
    return selector.items() <= labels.items()


def takes(selector: Object, labels: dict[str, str]) -> bool:
    """Whether a selector, as policies have it, takes an object with these labels."""
    results = {
        "In": lambda key, values: labels.get(key) in values,
        "NotIn": lambda key, values: labels.get(key) not in values,
        "Exists": lambda key, _: key in labels,
        "DoesNotExist": lambda key, _: key not in labels,
    }
    expressions = selector.get("matchExpressions", [])
    return selects(selector.get("matchLabels", {}), labels) and all(
        results[e["operator"]](e["key"], e.get("values")) for e in expressions
    )


BY_ROLE = ("workload-identity", "asks-models", "internet", "dask-scheduler", "dask-workers", "uses-dask")
"""Policies for pods of one role, which may be none: without Jobs, a bucket or Dask."""
OTHERS = [
    {},
    {"app": "shop"},
    {"app.kubernetes.io/name": "serving", "app.kubernetes.io/part-of": "shop"},
    *({"app.kubernetes.io/name": name} for name in ("serving", "predict", "train", "files")),
    {"flow-images/reaches-internet": "true", "flow-images/uses-bucket": "true", "flow-images/asks-models": "true"},
]
"""Labels of pods that are not ours, some of them much like ours."""


@rule
def restricted(objects: list[Object]) -> Iterator[str]:
    """Pod Security `restricted` and more, in Job templates too (the API server looks at those only as pods)."""
    for name, _, template in workloads(objects):
        pod = template["spec"]
        context = pod.get("securityContext", {})
        if not (context.get("runAsNonRoot") and context.get("runAsUser", 0) > 10000):
            yield f"{name}: must run as a user above 10000"
        if context.get("seccompProfile", {}).get("type") != "RuntimeDefault":
            yield f"{name}: no seccomp profile"
        for key in ("hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace"):
            if pod.get(key):
                yield f"{name}: {key}"
        allowed = {"emptyDir", "configMap", "secret", "persistentVolumeClaim"}
        for volume in pod.get("volumes", []):
            if not set(volume) - {"name"} <= allowed:
                yield f"{name}: volume {volume['name']} of another kind"
    for name, container, _ in each_container(objects):
        context = container.get("securityContext", {})
        if context.get("allowPrivilegeEscalation") is not False or context.get("privileged"):
            yield f"{name}: may gain privileges"
        if context.get("readOnlyRootFilesystem") is not True:
            yield f"{name}: root file system is writable"
        if context.get("capabilities") != {"drop": ["ALL"]}:
            yield f"{name}: keeps capabilities"
        if set(context) & {"runAsUser", "runAsNonRoot", "seccompProfile"}:
            yield f"{name}: overrides the pod's security context"


@rule
def no_rights(objects: list[Object]) -> Iterator[str]:
    """Nothing of ours talks to the API server."""
    for o in objects:
        if o["kind"] in ("Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding"):
            yield f"{o['kind']} {o['metadata']['name']}: nothing needs rights"
    accounts = named(objects, "ServiceAccount")
    for name, _, template in workloads(objects):
        pod = template["spec"]
        account = accounts.get(pod.get("serviceAccountName", ""))
        if account is None:
            yield f"{name}: no ServiceAccount of its own"
        elif account.get("automountServiceAccountToken") is not False:
            yield f"{name}: its ServiceAccount mounts tokens"
        if pod.get("automountServiceAccountToken") is not False:
            yield f"{name}: mounts a token"
        if pod.get("enableServiceLinks") is not False:
            yield f"{name}: gets a variable for each Service (SERVING_PORT…)"


@rule
def labelled(objects: list[Object]) -> Iterator[str]:
    """The client finds what is ours, to show it and to clean it up, by one label."""
    for o in objects:
        if o["metadata"].get("labels", {}).get("app.kubernetes.io/part-of") != "flow-images":
            yield f"{o['kind']} {o['metadata']['name']}: is not labelled as part of flow-images"


@rule
def ports(objects: list[Object]) -> Iterator[str]:
    """A probe or Service that names no port of the container is accepted by the API server, and never works."""
    for name, container, _ in each_container(objects):
        known = {p["name"] for p in container.get("ports", [])}
        for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
            probe = container.get(kind, {})
            for how in ("httpGet", "tcpSocket", "grpc"):
                if how in probe and probe[how]["port"] not in known:
                    yield f"{name}: {kind} asks port {probe[how]['port']}, which it has not"
    for service_name, service in named(objects, "Service").items():
        taken = [t for _, _, t in workloads(objects) if selects(service["spec"]["selector"], t["metadata"]["labels"])]
        if len(taken) != 1:
            yield f"Service {service_name}: selects {len(taken)} workloads"
        open_ports = {p["name"] for t in taken for c in containers(t) for p in c.get("ports", [])}
        for port in service["spec"]["ports"]:
            if port["targetPort"] not in open_ports:
                yield f"Service {service_name}: leads to port {port['targetPort']}, which no container has"


@rule
def selectors(objects: list[Object]) -> Iterator[str]:
    """Budgets and policies that select nothing protect nothing."""
    labels = [t["metadata"]["labels"] for _, _, t in workloads(objects)]
    for kind, key in (("PodDisruptionBudget", "selector"), ("NetworkPolicy", "podSelector")):
        for name, o in named(objects, kind).items():
            wanted = o["spec"][key].get("matchLabels", {})
            if name not in BY_ROLE and not any(selects(wanted, given) for given in labels):
                yield f"{kind} {name}: selects no pod"
    for name, o in named(objects, "HorizontalPodAutoscaler").items():
        target = named(objects, o["spec"]["scaleTargetRef"]["kind"]).get(o["spec"]["scaleTargetRef"]["name"])
        if target is None:
            yield f"HorizontalPodAutoscaler {name}: scales nothing"
        elif "replicas" in target["spec"]:
            yield f"HorizontalPodAutoscaler {name}: each apply would set the number of replicas back"


@rule
def others_pods(objects: list[Object]) -> Iterator[str]:
    """Nobody else's pods are selected, whatever the namespace holds, unless we made the namespace for us alone."""
    own = any("flow-images/own-namespace" in o["metadata"]["labels"] for o in named(objects, "Namespace").values())
    selectors = [
        ("Service", name, {"matchLabels": o["spec"]["selector"]}) for name, o in named(objects, "Service").items()
    ]
    selectors += [
        (kind, name, o["spec"][key])
        for kind, key in (("PodDisruptionBudget", "selector"), ("NetworkPolicy", "podSelector"))
        for name, o in named(objects, kind).items()
        if not (own and name == "other-pods")
    ]
    for kind, name, selector in selectors:
        for labels in OTHERS:
            if takes(selector, labels):
                yield f"{kind} {name}: selects pods of others, with labels {labels}"


@rule
def references(objects: list[Object]) -> Iterator[str]:
    """Every ConfigMap, volume, claim and variable that is used exists."""
    maps, claims = named(objects, "ConfigMap"), named(objects, "PersistentVolumeClaim")
    classes = named(objects, "PriorityClass")
    for name, _, template in workloads(objects):
        pod = template["spec"]
        for volume in pod.get("volumes", []):
            if "configMap" in volume and volume["configMap"]["name"] not in maps:
                yield f"{name}: no ConfigMap {volume['configMap']['name']}"
            if "persistentVolumeClaim" in volume and volume["persistentVolumeClaim"]["claimName"] not in claims:
                yield f"{name}: no claim {volume['persistentVolumeClaim']['claimName']}"
            if "secret" in volume and volume["secret"].get("optional") is not True:
                yield f"{name}: Secret {volume['secret']['secretName']} must be optional"
        if pod.get("priorityClassName", "") and pod["priorityClassName"] not in classes:
            yield f"{name}: no PriorityClass {pod['priorityClassName']}"
    for name, container, template in each_container(objects):
        volumes = {v["name"] for v in template["spec"].get("volumes", [])}
        for mount in container.get("volumeMounts", []):
            if mount["name"] not in volumes:
                yield f"{name}: mounts {mount['name']}, which the pod has not"
            may_write = mount["name"] == "tmp" or (container["name"], mount["name"]) in WRITABLE
            claimed = any(v["name"] == "images" and "persistentVolumeClaim" in v for v in template["spec"]["volumes"])
            may_write &= not (mount["name"] == "images" and claimed)
            if not mount.get("readOnly") and not may_write:
                yield f"{name}: may write to {mount['mountPath']}"
        given = GIVEN_BY_JOBS | {e["name"] for e in container.get("env", [])}
        for variable in container.get("env", []):
            key = variable.get("valueFrom", {}).get("configMapKeyRef")
            if key and key["key"] not in maps.get(key["name"], {}).get("data", {}):
                yield f"{name}: no {key['key']} in ConfigMap {key['name']}"
        for source in container.get("envFrom", []):
            config = maps.get(source["configMapRef"]["name"])
            if config is None:
                yield f"{name}: no ConfigMap {source['configMapRef']['name']}"
            else:
                given |= set(config["data"])
        for word in [*container.get("command", []), *container.get("args", [])]:
            for variable in set(re.findall(r"\$\((\w+)\)", word)) - given:
                yield f"{name}: {word} uses {variable}, which is not set"


@rule
def resources(objects: list[Object]) -> Iterator[str]:
    """Requests for the scheduler, a limit on memory, pinned images."""
    for name, container, _ in each_container(objects):
        wants = container.get("resources", {})
        if not {"cpu", "memory"} <= set(wants.get("requests", {})):
            yield f"{name}: no request for cpu and memory"
        for what in {"memory", "ephemeral-storage"} - set(wants.get("limits", {})):
            yield f"{name}: no limit on {what}"
        gpus = [wants.get(k, {}).get("nvidia.com/gpu") for k in ("requests", "limits")]
        if gpus[0] != gpus[1]:
            yield f"{name}: GPUs must be requested as they are limited"
        _, _, tag = container["image"].rpartition("/")[2].partition(":")
        if not tag or tag.startswith("latest"):
            yield f"{name}: image {container['image']} has no version"


@rule
def jobs(objects: list[Object]) -> Iterator[str]:
    """Retries follow the exit codes, and the shards are as many as the pods."""
    for name, job in named(objects, "Job").items():
        spec: dict[str, Any] = job["spec"]
        if spec["template"]["spec"].get("restartPolicy") != "Never":
            yield f"Job {name}: without restartPolicy Never there is no pod failure policy"
        policy = spec.get("podFailurePolicy", {}).get("rules", [])
        if not policy or policy[0] != {
            "action": "Ignore",
            "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}],
        }:
            yield f"Job {name}: an eviction must not count as a failure, and must be looked at first"
        (main,) = spec["template"]["spec"]["containers"]
        ends: set[int] = set()
        waits: set[int] = set()
        for entry in policy:
            codes = entry.get("onExitCodes", {})
            if codes.get("containerName") == "wait-for-model":
                waits |= set(codes["values"])
            elif codes and (codes["operator"], codes.get("containerName")) != ("In", main["name"]):
                yield f"Job {name}: exit codes of {codes.get('containerName')} instead of {main['name']}"
            elif entry["action"] == "FailJob":
                ends |= set(codes.get("values", []))
        kind = main["args"][0]
        if ends != RERUN_WONT_HELP[kind]:
            yield f"Job {name}: fails at once on {sorted(ends)}, not on {sorted(RERUN_WONT_HELP[kind])}"
        if not spec.get("activeDeadlineSeconds"):
            yield f"Job {name}: waits for ever where its image can't be pulled"
        reconciled = "kustomize.toolkit.fluxcd.io/force" in job["metadata"].get("annotations", {})
        if reconciled == bool(spec.get("ttlSecondsAfterFinished")):
            yield f"Job {name}: is never cleaned up"
        if kind == "predict":
            shards = [a.rpartition("/")[2] for a in main["args"] if a.startswith("--shard=")]
            expected = (
                [] if "--runner=DaskRunner" in main["args"] and spec["completions"] == 1 else [spec["completions"]]
            )
            if spec.get("completionMode") != "Indexed" or shards != [str(count) for count in expected]:
                yield f"Job {name}: {spec.get('completions')} pods for {shards} shards"
            if waits != {2, 75}:
                yield f"Job {name}: waits again and again for a server that never comes"
            if spec.get("maxFailedIndexes") != 0:
                yield f"Job {name}: goes on although an index has failed for good"
            if "backoffLimitPerIndex" not in spec or "backoffLimit" in spec:
                yield f"Job {name}: one unlucky index spends the retries of all"
        if kind == "train" and not any(a.startswith("--version=") for a in main["args"]):
            yield f"Job {name}: a retried pod would publish another version"


@rule
def drains(objects: list[Object]) -> Iterator[str]:
    """A server pod that ends has time to be left by every client."""
    for name, deployment in named(objects, "Deployment").items():
        pod = deployment["spec"]["template"]["spec"]
        for container in (c for c in pod["containers"] if c["name"] == "serving"):
            text = " ".join(container.get("args", []))
            ages = [int(n) / 1000 for n in re.findall(r"grpc\.max_connection_age(?:_grace)?_ms=(\d+)", text)]
            sleep = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
            if len(ages) == 2 and ages[1] < RetryPolicy().deadline_s:
                yield f"{name}: cuts off requests after {ages[1]} s that may take {RetryPolicy().deadline_s} s"
            # gRPC spreads the age by a tenth either way.
            if len(ages) != 2 or sleep < ages[0] * 1.1 + ages[1]:
                yield f"{name}: ends {sleep} s after it left the Services, its connections live {ages}"
            if pod.get("terminationGracePeriodSeconds", 30) <= sleep:
                yield f"{name}: is killed while preStop still runs"
            if "/v1/models/%s/metadata" not in container["readinessProbe"].get("exec", {}).get("command", [""])[-1]:
                yield f"{name}: readiness does not mean that a model can be asked"
            if "models" in container["livenessProbe"]["httpGet"]["path"]:
                yield f"{name}: liveness asks for a model, which a restart can't bring"
            if "--enable_profiler=false" not in container.get("args", []):
                yield f"{name}: the profiler is on"
