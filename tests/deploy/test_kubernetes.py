"""The manifests of AKS: against the schemas of Kubernetes, and against each other."""

import shutil
import unittest

import kubernetes_validate

from support import DEPLOY, documents, read, run

# The oldest version that ends sidecars behind the others without a feature gate and is still looked after, and the newest
# whose schemas there are.
VERSIONS = ["1.33", "1.37"]
# Not the API server's: kubectl reads it.
KUSTOMIZATION = "kustomization.yaml"


def manifests() -> dict[str, dict]:
    """Every resource, by its kind."""
    files = [one for one in (DEPLOY / "aks").glob("*.yaml") if one.name != KUSTOMIZATION]
    return {one["kind"]: one for file in files for one in documents(file.read_text())}


def faults(resource: dict) -> list[str]:
    """What the schemas say of a resource, unknown keys among it."""
    found = []
    for version in VERSIONS:
        try:
            kubernetes_validate.validate(resource, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            found.append(f"{version}: {error.message}")
    return found


class Schemas(unittest.TestCase):
    def test_every_manifest_fits_the_schemas(self):
        found = manifests()
        self.assertEqual(len(found), 6)
        for kind, resource in found.items():
            with self.subTest(kind):
                self.assertEqual(faults(resource), [])

    def test_faults_are_found(self):
        deployment = manifests()["Deployment"]
        deployment["spec"]["template"]["spec"]["containers"][0]["livenesProbe"] = {}
        self.assertTrue(faults(deployment))
        policy = manifests()["NetworkPolicy"]
        policy["spec"]["ingress"][0]["ports"][0]["port"] = [8443]
        self.assertTrue(faults(policy))

    # Where kubectl is installed, it is asked.
    if shutil.which("kubectl"):

        def test_what_kustomize_makes_of_them_fits_the_schemas(self):
            made = run("kubectl", "kustomize", DEPLOY / "aks")
            self.assertEqual(made.returncode, 0, made.stderr)
            resources = documents(made.stdout)
            self.assertEqual(len([one for one in resources if one["kind"] == "ConfigMap"]), 2)
            for resource in resources:
                self.assertEqual(faults(resource), [], resource["kind"])
                self.assertTrue(resource["kind"] == "Namespace" or resource["metadata"]["namespace"] == "portcullis")


class Together(unittest.TestCase):
    def setUp(self):
        self.found = manifests()
        self.kustomization = documents(read(f"aks/{KUSTOMIZATION}"))[0]
        self.pod = self.found["Deployment"]["spec"]["template"]
        spec = self.pod["spec"]
        self.containers = {one["name"]: one for one in spec["initContainers"] + spec["containers"]}

    def test_kustomization_names_every_file(self):
        there = sorted(one.name for one in (DEPLOY / "aks").glob("*.yaml") if one.name != KUSTOMIZATION)
        self.assertEqual(sorted(self.kustomization["resources"]), there)
        images = {one["name"] for one in self.kustomization["images"]}
        self.assertEqual(images, {one["image"] for one in self.containers.values()})

    def test_every_policy_is_in_the_config_map(self):
        files = {one["name"]: one["files"] for one in self.kustomization["configMapGenerator"]}
        policies = [one for one in (DEPLOY / "aks/policies").iterdir() if not one.name.endswith(".test.yaml")]
        self.assertEqual(sorted(files["portcullis-policies"]), sorted(f"policies/{one.name}" for one in policies))
        mapped = {one["configMap"]["name"] for one in self.pod["spec"]["volumes"] if "configMap" in one}
        self.assertEqual(mapped, files.keys())
        for name in sum(files.values(), []):
            self.assertTrue((DEPLOY / "aks" / name).is_file(), name)

    def test_volumes_are_those_that_are_mounted(self):
        volumes = {one["name"] for one in self.pod["spec"]["volumes"]}
        mounted = {one["name"] for container in self.containers.values() for one in container["volumeMounts"]}
        self.assertEqual(volumes, mounted)

    def test_no_container_may_more_than_the_restricted_profile_lets_it(self):
        pod = self.pod["spec"]["securityContext"]
        self.assertTrue(pod["runAsNonRoot"] and pod["runAsUser"] == 65532)
        self.assertEqual(pod["seccompProfile"], {"type": "RuntimeDefault"})
        for name, container in self.containers.items():
            context = container["securityContext"]
            self.assertEqual(
                context,
                {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}},
                name,
            )

    def test_the_app_starts_first_and_ends_last(self):
        app = self.pod["spec"]["initContainers"][0]
        self.assertEqual((app["name"], app["restartPolicy"]), ("app", "Always"))
        self.assertNotIn("ports", app)

    def test_selectors_find_the_pods(self):
        labels = self.pod["metadata"]["labels"].items()
        selectors = [
            self.found["Deployment"]["spec"]["selector"]["matchLabels"],
            self.found["Service"]["spec"]["selector"],
            self.found["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"],
            self.found["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
        ]
        for selector in selectors:
            self.assertLessEqual(selector.items(), labels)

    def test_nothing_comes_in_but_at_the_ports_of_the_gateway(self):
        ports = {one["containerPort"] for one in self.containers["gateway"]["ports"]}
        let_in = {port["port"] for rule in self.found["NetworkPolicy"]["spec"]["ingress"] for port in rule["ports"]}
        self.assertEqual(let_in, ports)
        names = {one["name"] for one in self.containers["gateway"]["ports"]}
        self.assertLessEqual({one["targetPort"] for one in self.found["Service"]["spec"]["ports"]}, names)

    def test_one_pod_may_end_while_the_others_serve(self):
        budget = self.found["PodDisruptionBudget"]["spec"]["maxUnavailable"]
        self.assertLess(budget, self.found["Deployment"]["spec"]["replicas"])

    def test_the_service_account_is_the_one_that_the_pod_uses(self):
        self.assertEqual(self.pod["spec"]["serviceAccountName"], self.found["ServiceAccount"]["metadata"]["name"])
        self.assertEqual(self.pod["metadata"]["labels"]["azure.workload.identity/use"], "true")
        self.assertEqual(self.pod["metadata"]["annotations"]["azure.workload.identity/skip-containers"], "app")
