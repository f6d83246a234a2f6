"""Checks what the chart renders: check_manifests.py RENDERED.yaml OUT-FOLDER, in an environment with kubernetes-validate.

Every object is valid for the oldest and for a current Kubernetes, the pod keeps to the restricted security standard,
selectors match, and the configuration is TOML with the types the values had. The rules of a PrometheusRule and the
configuration are written to OUT-FOLDER for promtool and for the relay itself.
"""

import json
import pathlib
import sys
import tomllib

import kubernetes_validate
import yaml

KUBERNETES = ("1.25", "1.35")
# Custom resources have no schema in Kubernetes itself.
CUSTOM = {"ServiceMonitor", "PrometheusRule"}


def check_pod(deployment, config, problems):
    pod = deployment["spec"]["template"]["spec"]
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    container = pod["containers"][0]
    security = {**pod["securityContext"], **container["securityContext"]}
    wanted = {
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    for name, value in wanted.items():
        if security.get(name) != value:
            problems.append(f"securityContext.{name} is {security.get(name)}, not {value}")
    if pod.get("automountServiceAccountToken") is not False:
        problems.append("the pod mounts a service account token")
    if "env" in container or "envFrom" in container:
        problems.append("the container has environment variables; secrets are files")
    mounts = {mount["name"] for mount in container["volumeMounts"]}
    if mounts != {volume["name"] for volume in pod["volumes"]}:
        problems.append("volumes and mounts differ")
    number, unit = config.get("relay", {}).get("drain_timeout", "20s"), 1
    if number.endswith("m"):
        unit = 60
    if pod["terminationGracePeriodSeconds"] <= int(number.rstrip("sm")) * unit:
        problems.append("the pod is killed before its drain is over")
    port = container["ports"][0]["containerPort"]
    if not config["http"]["listen"].endswith(f":{port}"):
        problems.append("the probes' port is not the one of http.listen")
    return labels


def main(rendered, out):
    documents = [d for d in yaml.safe_load_all(pathlib.Path(rendered).read_text()) if d]
    kinds = {d["kind"]: d for d in documents}
    problems = []
    for document in documents:
        if document["kind"] in CUSTOM:
            continue
        for version in KUBERNETES:
            try:
                kubernetes_validate.validate(document, version, strict=True)
            except kubernetes_validate.ValidationError as error:
                problems.append(f"{document['kind']} in Kubernetes {version}: {error.message}")

    text = kinds["ConfigMap"]["data"]["outbox-relay.toml"]
    config = tomllib.loads(text)
    (pathlib.Path(out) / "outbox-relay.toml").write_text(text)
    labels = check_pod(kinds["Deployment"], config, problems)
    selectors = [kinds["Deployment"]["spec"]["selector"]["matchLabels"]]
    if "PodDisruptionBudget" in kinds:
        selectors.append(kinds["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"])
    if "Service" in kinds:
        selectors.append(kinds["Service"]["spec"]["selector"])
        wanted = kinds["ServiceMonitor"]["spec"]["selector"]["matchLabels"].items()
        if not wanted <= kinds["Service"]["metadata"]["labels"].items():
            problems.append("the ServiceMonitor does not select the Service")
    if any(not selector.items() <= labels.items() for selector in selectors):
        problems.append("a selector does not match the pod's labels")
    if "relay" in config:  # the full values
        relay = config["relay"]
        # As text, because 1000000 == 1000000.0.
        kept = json.dumps([relay["in_flight_rows"], relay["poll_interval"]], sort_keys=True)
        if kept != '[1000000, {"max": "50ms", "min": "2ms"}]':
            problems.append(f"numbers or nested settings were not kept: {json.dumps(relay)}")
        if config["kafka"]["sasl"]["username"] != 'out"box <1>':
            problems.append("a quoted string was not kept")
        if config["kafka_files"]["sasl"]["password"] != "/run/outbox-relay/kafka/sasl-password":
            problems.append("the Kafka secret is not referenced by its path")
        if config["postgres"]["password_file"] != "/run/outbox-relay/postgres/password":
            problems.append("the Postgres secret is not referenced by its path")
        (pathlib.Path(out) / "rules.yml").write_text(yaml.safe_dump(kinds["PrometheusRule"]["spec"]))
    for problem in problems:
        print(problem)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
