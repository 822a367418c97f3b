"""Tier (a): every combination of manifests builds, is valid and keeps our own rules. Needs kubectl, no cluster."""

import copy
import itertools
import json
import re
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click
import pytest
import yaml

from tests.k8s import rules
from tests.k8s.builds import CACHE, K8S, Object, build, compose, kubectl, one
from tests.older_tensorflow import VERSIONS

pytestmark = pytest.mark.skipif(kubectl() is None, reason="needs kubectl, or cluster/build.sh control-plane")

OVERLAYS = sorted(p.parent.name for p in K8S.glob("overlays/*/kustomization.yaml"))
SERVERS: list[list[str]] = [[], ["embedded-server"], ["gpu"]]
STORES: list[list[str]] = [[], ["single-node"], ["bucket-gs"], ["bucket-s3"]]
ADDITIONS = ["autoscaling", "network-policies", "priority"]


def _options(name: str, *literals: str, **more: str) -> Object:
    return {"name": name, "namespace": "flow-images", "literals": list(literals), **more}


OURS = {"app.kubernetes.io/part-of": "flow-images"}
BUCKETS = {
    "bucket-gs": [_options("train-options", "IMAGES_SOURCE=gs://b/images", behavior="merge")],
    "bucket-s3": [
        _options("train-options", "IMAGES_SOURCE=s3://b/images", "MODEL_STORE=s3://b/models", behavior="merge"),
        _options("bucket", "AWS_REGION=us-east-1"),
        _options("serving-sync", "MODEL_SOURCE=s3://b/models"),
    ],
}
"""What whoever lists a bucket component has to set, as the overlays do."""


def combinations() -> list[list[str]]:
    """The components of everything that a team may combine."""
    additions = [list(c) for n in range(len(ADDITIONS) + 1) for c in itertools.combinations(ADDITIONS, n)]
    additions += [["own-namespace"], [*ADDITIONS, "own-namespace"]]
    additions += [["no-jobs"], [*ADDITIONS, "no-jobs"], ["replaced-jobs"]]
    additions += [["dask-job"], ["dask"], ["dask", *ADDITIONS, "replaced-jobs"], ["dask-operator", *ADDITIONS]]
    return [
        [*store, *server, *more]
        for store in STORES
        for server in SERVERS
        for more in additions
        if (store, server) != (["single-node"], ["gpu"])
    ]


@pytest.fixture(scope="module", params=OVERLAYS)
def overlay(request: pytest.FixtureRequest) -> list[Object]:
    return build(K8S / "overlays" / request.param)


@pytest.fixture(scope="module")
def base() -> list[Object]:
    return build(K8S / "base")


@pytest.fixture(scope="module")
def combined(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Object]]:
    """What every combination builds."""
    folder = tmp_path_factory.mktemp("combined")

    def built(components: list[str]) -> list[Object]:
        options = [option for c in components for option in BUCKETS.get(c, [])]
        return compose(folder / "+".join(["base", *components]), "base", components, options)

    every = combinations()
    with ThreadPoolExecutor() as pool:  # Each one is a process that is waited for.
        return dict(zip(("+".join(components) for components in every), pool.map(built, every), strict=True))


def test_every_combination_keeps_the_rules(combined: dict[str, list[Object]]) -> None:
    used = {c for components in combinations() for c in components}
    assert used == {p.name for p in (K8S / "components").iterdir()}
    assert [f"{name}: {breach}" for name, objects in combined.items() for breach in rules.breaches(objects)] == []


def test_overlays_keep_the_rules(overlay: list[Object]) -> None:
    assert rules.breaches(overlay) == []


def _container(objects: list[Object], kind: str, name: str) -> Object:
    container: Object = one(objects, kind, name)["spec"]["template"]["spec"]["containers"][0]
    return container


def _serving(o: list[Object]) -> Object:
    return _container(o, "Deployment", "serving")


def _job(o: list[Object], name: str) -> Object:
    spec: Object = one(o, "Job", name)["spec"]
    return spec


def _policy(name: str, selector: Object) -> Object:
    metadata = {"name": name, "labels": {"app.kubernetes.io/part-of": "flow-images"}}
    return {"kind": "NetworkPolicy", "metadata": metadata, "spec": {"podSelector": selector}}


WRONG: dict[str, Callable[[list[Object]], object]] = {
    "root user": lambda o: _job(o, "train")["template"]["spec"]["securityContext"].update(runAsUser=0),
    "writable root": lambda o: _serving(o)["securityContext"].update(readOnlyRootFilesystem=False),
    "capability": lambda o: _serving(o)["securityContext"].update(capabilities={"add": ["SYS_ADMIN"]}),
    "host path": lambda o: _job(o, "predict")["template"]["spec"]["volumes"].append(
        {"name": "h", "hostPath": {"path": "/"}}
    ),
    "token": lambda o: one(o, "ServiceAccount", "serving").update(automountServiceAccountToken=True),
    "role": lambda o: o.append({"kind": "Role", "metadata": {"name": "all"}}),
    "probe port": lambda o: _serving(o)["livenessProbe"]["httpGet"].update(port="http"),
    "service port": lambda o: one(o, "Service", "serving-pods")["spec"]["ports"][0].update(targetPort="http"),
    "service selector": lambda o: one(o, "Service", "serving")["spec"].update(selector={"app": "serving"}),
    "budget selector": lambda o: one(o, "PodDisruptionBudget", "serving")["spec"].update(
        selector={"matchLabels": {"app": "x"}}
    ),
    "config map": lambda o: _job(o, "train")["template"]["spec"]["containers"][0]["envFrom"].append(
        {"configMapRef": {"name": "x"}}
    ),
    "claim": lambda o: one(o, "PersistentVolumeClaim", "models")["metadata"].update(name="store"),
    "variable": lambda o: _container(o, "Job", "train")["args"].append("--seed=$(SEED)"),
    "writable images": lambda o: [m.pop("readOnly", 0) for m in _container(o, "Job", "train")["volumeMounts"]],
    "no disk limit": lambda o: _serving(o)["resources"]["limits"].pop("ephemeral-storage"),
    "no label": lambda o: one(o, "Service", "serving")["metadata"].pop("labels"),
    "no memory limit": lambda o: _serving(o)["resources"]["limits"].pop("memory"),
    "latest": lambda o: _serving(o).update(image="tensorflow/serving:latest-gpu"),
    "no tag": lambda o: _serving(o).update(image="registry.example:5000/serving"),
    "gpu request": lambda o: _serving(o)["resources"]["limits"].update({"nvidia.com/gpu": "1"}),
    "restart": lambda o: _job(o, "train")["template"]["spec"].update(restartPolicy="OnFailure"),
    "75 fails": lambda o: _job(o, "predict")["podFailurePolicy"]["rules"][1]["onExitCodes"].update(values=[1, 2, 75]),
    "1 retried": lambda o: _job(o, "predict")["podFailurePolicy"]["rules"].pop(1),
    "wait retried": lambda o: _job(o, "predict")["podFailurePolicy"]["rules"].pop(2),
    "no deadline": lambda o: _job(o, "predict").pop("activeDeadlineSeconds"),
    "failed index": lambda o: _job(o, "predict").pop("maxFailedIndexes"),
    "eviction counts": lambda o: _job(o, "predict")["podFailurePolicy"]["rules"].pop(0),
    "shards": lambda o: _job(o, "predict").update(completions=5),
    "shared retries": lambda o: _job(o, "predict").update(backoffLimit=6),
    "no ttl": lambda o: _job(o, "train").pop("ttlSecondsAfterFinished"),
    "no version": lambda o: _container(o, "Job", "train")["args"].pop(),
    "no drain": lambda o: _serving(o).pop("lifecycle"),
    "short grace": lambda o: one(o, "Deployment", "serving")["spec"]["template"]["spec"].update(
        terminationGracePeriodSeconds=80
    ),
    "short request": lambda o: _serving(o)["args"].append(
        _serving(o)["args"].pop().replace("age_grace_ms=60000", "age_grace_ms=15000")
    ),
    "status as readiness": lambda o: _serving(o)["readinessProbe"].update(
        httpGet={"path": "/v1/models/dogs", "port": "rest"}, exec={}
    ),
    "model as liveness": lambda o: _serving(o)["livenessProbe"]["httpGet"].update(path="/v1/models/dogs/metadata"),
    "model's name": lambda o: one(o, "ConfigMap", "model")["data"].pop("MODEL_NAME"),
    "policy for everybody": lambda o: o.append(_policy("all", {})),
    "policy for all but some": lambda o: o.append(
        _policy("most", {"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["a"]}]})
    ),
    "service for others": lambda o: one(o, "Service", "serving")["spec"]["selector"].pop("app.kubernetes.io/part-of"),
    "profiler": lambda o: _serving(o)["args"].remove("--enable_profiler=false"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_manifest_is_noticed(wrong: str, base: list[Object]) -> None:
    objects = copy.deepcopy(base)
    WRONG[wrong](objects)
    assert len(rules.breaches(objects)) >= 1


def test_serving_config_is_the_servers_own() -> None:
    for name in ("models.config", "batching.config", "monitoring.config"):
        theirs = (K8S.parent / "serving/server/config" / name).read_text()
        assert (K8S / "base" / name).read_text().replace("MODEL_NAME", "dogs") == theirs, name


def test_bucket_overlay_publishes_where_it_serves() -> None:
    objects = build(K8S / "overlays/bucket-gs")
    train = one(objects, "ConfigMap", "train-options")["data"]
    served = one(objects, "ConfigMap", "serving-config")["data"]["models.config"]
    assert f'base_path: "{train["MODEL_STORE"]}/MODEL_NAME"' in served
    objects = build(K8S / "overlays/bucket-s3")
    train = one(objects, "ConfigMap", "train-options")["data"]
    synced = one(objects, "ConfigMap", "serving-sync")["data"]
    assert synced["MODEL_SOURCE"] == train["MODEL_STORE"]


def test_gpu_pods_tolerate_and_choose_gpu_nodes() -> None:
    pod = one(build(K8S / "overlays/gpu"), "Deployment", "serving")["spec"]["template"]["spec"]
    assert pod["nodeSelector"] == {"nvidia.com/gpu.present": "true"}
    assert {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"} in pod["tolerations"]
    assert pod["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert pod["containers"][0]["image"].endswith("-gpu")


def test_only_prediction_reaches_the_port_that_can_load_models() -> None:
    policies = [o for o in build(K8S / "overlays/gpu") if o["kind"] == "NetworkPolicy"]
    opened = [
        source
        for policy in policies
        for rule in policy["spec"].get("ingress", [])
        if 8500 in [p["port"] for p in rule["ports"]]
        for source in rule["from"]
    ]
    assert opened == [
        {"podSelector": {"matchLabels": {"flow-images/asks-models": "true"}}},
    ]
    deny = one(policies, "NetworkPolicy", "default-deny")["spec"]
    assert deny == {"podSelector": {"matchLabels": OURS}, "policyTypes": ["Ingress", "Egress"]}


def test_every_pod_of_ours_is_shut_and_others_only_in_a_namespace_of_our_own(tmp_path: Path) -> None:
    def shut(objects: list[Object], labels: dict[str, str]) -> list[str]:
        policies = rules.named(objects, "NetworkPolicy").items()
        return [name for name, policy in policies if rules.takes(policy["spec"]["podSelector"], labels)]

    shared = compose(tmp_path / "shared", "base", ["network-policies"])
    own = build(K8S / "overlays/gpu")
    files = yaml.safe_load((K8S / "files.yaml").read_text())["metadata"]["labels"]
    for labels in [files, *(template["metadata"]["labels"] for _, _, template in rules.workloads(own))]:
        assert {"default-deny", "dns"} <= set(shut(shared, labels))
        assert "other-pods" not in shut(own, labels)
    for labels in rules.OTHERS:
        assert shut(shared, labels) == []
        assert shut(own, labels) == ["other-pods"]
    # What makes the namespace comes with it, and nowhere else.
    assert not rules.named(shared, "Namespace")
    assert rules.named(own, "Namespace")


def _may_connect(objects: list[Object], here: dict[str, str], there: dict[str, str], port: int) -> bool:
    """Whether the network policies let a pod with these labels open a connection to another one in the namespace."""

    def opens(direction: str, own: dict[str, str], other: dict[str, str]) -> bool:
        ours = [
            policy["spec"]
            for policy in rules.named(objects, "NetworkPolicy").values()
            if direction in policy["spec"]["policyTypes"] and rules.takes(policy["spec"]["podSelector"], own)
        ]
        key, peers = ("egress", "to") if direction == "Egress" else ("ingress", "from")
        return not ours or any(
            port in [p["port"] for p in rule["ports"]] and rules.takes(peer["podSelector"], other)
            for spec in ours
            for rule in spec.get(key, [])
            for peer in rule[peers]
            if set(peer) == {"podSelector"}
        )

    return opens("Egress", here, there) and opens("Ingress", there, here)


@pytest.mark.parametrize(("folder", "more"), [("overlays/local", []), ("base", ["network-policies"])])
def test_the_label_opens_the_way_to_the_servers_at_both_ends(folder: str, more: list[str], tmp_path: Path) -> None:
    objects = compose(tmp_path, folder, more)
    serving, predict = (
        one(objects, kind, name)["spec"]["template"]["metadata"]["labels"]
        for kind, name in (("Deployment", "serving"), ("Job", "predict"))
    )
    asks = {"flow-images/asks-models": "true"}
    for port in (8500, 8501):
        for labels in (predict, {"app": "shop", **asks}, {**OURS, **asks}):
            assert _may_connect(objects, labels, serving, port)
        for labels in ({"app": "shop"}, OURS, {**OURS, "app.kubernetes.io/name": "train"}):
            assert not _may_connect(objects, labels, serving, port)
    assert not _may_connect(objects, predict, serving, 22)


def test_for_a_reconciler_there_are_no_jobs_or_such_as_it_may_replace(tmp_path: Path) -> None:
    for overlay_name in OVERLAYS:
        whole = build(K8S / "overlays" / overlay_name)
        servers = compose(tmp_path / "servers" / overlay_name, f"overlays/{overlay_name}", ["no-jobs"])
        jobs = [o for o in whole if o["kind"] == "Job"]
        assert len(jobs) == 2
        assert servers == [o for o in whole if o not in jobs]
        replaced = compose(tmp_path / "replaced" / overlay_name, f"overlays/{overlay_name}", ["replaced-jobs"])
        for job in (o for o in replaced if o["kind"] == "Job"):
            assert job["metadata"]["annotations"]["argocd.argoproj.io/sync-options"] == "Force=true,Replace=true"
            assert job["metadata"]["annotations"]["kustomize.toolkit.fluxcd.io/force"] == "enabled"
            assert "ttlSecondsAfterFinished" not in job["spec"]
        assert [o for o in replaced if o["kind"] != "Job"] == [o for o in whole if o["kind"] != "Job"]


def test_the_patches_of_the_docs_fit_the_manifests(tmp_path: Path) -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", (K8S.parent / "docs/kubernetes.md").read_text(), re.DOTALL)
    patched = [block for block in map(yaml.safe_load, blocks) if "patches" in block and "kind" not in block]
    assert len(patched) == 2
    for number, block in enumerate(patched):
        folder = tmp_path / str(number)
        before = compose(folder, "overlays/local", [])
        written = yaml.safe_load((folder / "kustomization.yaml").read_text())
        (folder / "kustomization.yaml").write_text(yaml.safe_dump({**written, **block}))
        for patch in block["patches"]:
            kinds, names = (patch["target"].get(key, ".*") for key in ("kind", "name"))
            meant = [
                (o, after)
                for o, after in zip(before, build(folder), strict=True)
                if re.fullmatch(kinds, o["kind"]) and re.fullmatch(names, o["metadata"]["name"])
            ]
            assert len(meant) > 1
            assert all(o != after for o, after in meant)


def test_exports_are_tested_with_the_tensorflow_of_each_server(tmp_path: Path) -> None:
    pods = [
        one(compose(tmp_path / kind, "base", components), "Deployment", "serving")["spec"]["template"]["spec"]
        for kind, components in (("cpu", []), ("gpu", ["gpu"]))
    ]
    tags = [spec["containers"][0]["image"].removeprefix("tensorflow/serving:") for spec in pods]
    assert {tag.removesuffix("-gpu") for tag in tags} <= set(VERSIONS)
    assert [tag.endswith("-gpu") for tag in tags] == [False, True]


def _linter(name: str) -> str:
    path = CACHE / "bin" / name
    if not path.exists():
        pytest.skip(f"{name} is not installed: tests/k8s/cluster/build.sh linters")
    return str(path)


@pytest.fixture(scope="module")
def distinct(combined: dict[str, list[Object]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One file of all objects of all combinations, and of the overlays; equal ones once."""
    overlays = [o for name in OVERLAYS for o in build(K8S / "overlays" / name)]
    files = yaml.safe_load((K8S / "files.yaml").read_text())
    objects = [files, *overlays, *(o for combination in combined.values() for o in combination)]
    path = tmp_path_factory.mktemp("distinct") / "all.yaml"
    path.write_text("---\n".join(sorted({yaml.safe_dump(o) for o in objects})))
    return path


@pytest.mark.parametrize("version", ["1.34", "1.37"], ids=["the oldest", "the newest"])
def test_kubernetes_validate(distinct: Path, version: str) -> None:
    tool = _linter("kubernetes-validate")
    done = subprocess.run([tool, "-k", version, "--strict", distinct], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_checkov(distinct: Path) -> None:
    tool = _linter("checkov")
    config = Path(__file__).with_name("checkov.yaml")
    command = [tool, "--config-file", str(config), "-f", str(distinct), "-o", "json"]
    done = subprocess.run(command, capture_output=True, text=True)
    report = json.loads(done.stdout)
    failed = [f"{c['check_id']} {c['resource']}: {c['check_name']}" for c in report["results"]["failed_checks"]]
    assert failed == []
    assert report["summary"]["passed"] > 100


def test_hadolint() -> None:
    tool = _linter("hadolint")
    done = subprocess.run([tool, K8S / "images/Containerfile"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def _values(objects: list[Object], container: Object) -> dict[str, str]:
    """The variables of a container."""
    values = {"JOB_COMPLETION_INDEX": "0"}
    for source in container.get("envFrom", []):
        values |= one(objects, "ConfigMap", source["configMapRef"]["name"])["data"]
    for variable in container.get("env", []):  # which win over those of envFrom
        key = variable.get("valueFrom", {}).get("configMapKeyRef")
        if key:
            values[variable["name"]] = one(objects, "ConfigMap", key["name"])["data"][key["key"]]
    return values


def _spoken(objects: list[Object], container: Object) -> list[str]:
    """The command and arguments of a container, with its variables put in as Kubernetes does."""
    values = _values(objects, container)
    return [re.sub(r"\$\((\w+)\)", lambda m: values[m[1]], a) for a in container["args"]]


def test_the_commands_know_their_options(overlay: list[Object]) -> None:
    import flow_images.cli
    from k8s.pods import sync_models, train_with_bucket, wait_for_model
    from serving.server.run.server_options import parse_flags

    for job in ("train", "predict"):
        container = _container(overlay, "Job", job)
        name, *arguments = _spoken(overlay, container)
        command = flow_images.cli.cli.get_command(click.Context(flow_images.cli.cli), name)
        assert command is not None
        assert command.make_context(name, arguments).command is command
        if "command" in container:
            wrapped = [w.replace("$(", "").replace(")", "") for w in container["command"]]
            assert wrapped[:4] == ["dumb-init", "python", "-m", "k8s.pods.train_with_bucket"]
            train_with_bucket.main.make_context("staged", [*wrapped[4:], name, *arguments])
    waits = one(overlay, "Job", "predict")["spec"]["template"]["spec"]["initContainers"][0]
    wait_for_model.main.make_context("wait", _spoken(overlay, waits))
    pod = one(overlay, "Deployment", "serving")["spec"]["template"]["spec"]
    for container in pod.get("initContainers", []):
        sync_models.main.make_context("sync", _spoken(overlay, container))
    _, unknown = parse_flags(pod["containers"][0]["args"])
    assert unknown == []


GENERATED = {"local": 3, "bucket-gs": 3, "bucket-s3": 5}
"""Overlay -> how many ConfigMaps of variables it has."""


@pytest.mark.parametrize("overlay_name", GENERATED)
def test_each_documented_value_changed_by_itself_reaches_all_that_use_it(overlay_name: str, tmp_path: Path) -> None:
    before = build(K8S / "overlays" / overlay_name)
    maps = {
        o["metadata"]["name"].rpartition("-")[0]: o["data"]
        for o in before
        if o["kind"] == "ConfigMap" and not any(key.endswith(".config") for key in o["data"])
    }
    assert len(maps) == GENERATED[overlay_name]
    documented = (K8S.parent / "docs/kubernetes.md").read_text()
    for name, data in maps.items():
        for key, old in data.items():
            assert f"`{key}`" in documented or name == "bucket"
            folder = tmp_path / name / key
            after = compose(folder, f"overlays/{overlay_name}", [], [_options(name, f"{key}=new", behavior="merge")])
            changed = [w for w, c, _ in rules.each_container(after) if _values(after, c).get(key) == "new"]
            used = [w for w, c, _ in rules.each_container(before) if _values(before, c).get(key) == old]
            assert changed == used, key
            assert changed, key
            assert rules.breaches(after) == []


def test_the_models_name_stands_in_one_place() -> None:
    for overlay_name in OVERLAYS:
        objects = build(K8S / "overlays" / overlay_name)
        assert [o["kind"] for o in objects if "dogs" in yaml.safe_dump(o)] == ["ConfigMap"]
        told = [w for w, c, _ in rules.each_container(objects) if _values(objects, c).get("MODEL_NAME") == "dogs"]
        sync = ["serving/sync"] if overlay_name == "bucket-s3" else []
        assert sorted(told) == sorted(
            ["predict/predict", "predict/wait-for-model", "serving/serving", "train/train", *sync]
        )
