"""The Bicep files, as far as it goes without the compiler and Azure."""

import unittest

from bicep import MODELS, Bicep, version
from support import DEPLOY

APPS = DEPLOY / "container-apps/main.bicep"
SITE = DEPLOY / "app-service/main.bicep"
FILES = [APPS, SITE]


class Models(unittest.TestCase):
    def test_every_property_is_one_of_the_sdk_and_of_its_type(self):
        for path in FILES:
            with self.subTest(path.parent.name):
                self.assertEqual(Bicep(path).faults(), [])

    def test_resources_are_of_the_version_that_the_models_describe(self):
        for path in FILES:
            for symbol, resource in Bicep(path).made().items():
                with self.subTest(symbol):
                    self.assertIn(resource["type"], MODELS)
                    self.assertEqual(resource["api_version"], version(resource["type"].split("/")[0]))

    def test_every_parameter_and_variable_is_used_and_described(self):
        for path in FILES:
            bicep = Bicep(path)
            self.assertEqual(bicep.unused(), set())
            for name, parameter in bicep.parameters.items():
                self.assertIn("description", [one["type"] for one in parameter["decorators"]], name)

    def test_faults_are_found(self):
        """What each line makes wrong, and what is said of it: the check itself, checked."""
        for old, new, fault in [
            ("targetPort: 8080", "targetPrt: 8080", "Ingress has no `targetPrt`"),
            ("targetPort: 8080", "targetPort: '8080'", "int belongs here, not '8080'"),
            ("failureThreshold: 10", "failureThreshold: 60", "60 is not between 1 and 10"),
            ("transport: 'auto'", "transport: 'grpc'", "'grpc' is none of"),
            ("scheme: 'HTTP'", "scheme: 'http'", "'http' is none of"),
            ("environmentId: environment.id", "environmentId: environment.id\n    provisioningState: 'Succeeded'", "cannot be written"),
            ("  location: location\n", "", "`location` must be written"),
            ("principalType: 'ServicePrincipal'", "principalType: 'App'", "'App' is none of"),
            ("identity: identity.id }\n      ]", "identity: identty.id }\n      ]", "nothing declares `identty`"),
            ("storageType: 'Secret'", "storageType: 'ConfigMap'", "'ConfigMap' is none of"),
        ]:
            with self.subTest(new):
                text = APPS.read_text()
                self.assertIn(old, text)
                faults = Bicep(APPS, text.replace(old, new)).faults()
                self.assertTrue(any(fault in one for one in faults), faults)


class ContainerApps(unittest.TestCase):
    def setUp(self):
        self.bicep = Bicep(APPS)
        self.app = self.bicep.resources["containerApp"]["config"]["properties"]
        self.secrets = {one["name"]: one for one in self.app["configuration"]["secrets"]}
        self.gateway = self.bicep.variables["gateway"]

    def test_files_that_are_mounted_exist_and_nothing_else_is_a_plain_value(self):
        files = self.bicep.files()
        for path in files.values():
            self.assertTrue(path.is_file(), path)
        for name, secret in self.secrets.items():
            if "value" in secret:
                self.assertIn(secret["value"], files, name)
            else:
                self.assertIn("vaultUri", secret["keyVaultUrl"])
        plain = [name for name, one in self.bicep.parameters.items() if "password" in name.lower() or "key" in name.lower()]
        self.assertEqual(plain, [])

    def test_every_policy_is_mounted_where_gateway_yaml_looks_for_it(self):
        volumes = {one["name"]: one for one in self.app["template"]["volumes"]}
        mounts = {one["volumeName"]: one["mountPath"] for one in self.gateway["volumeMounts"]}
        self.assertEqual(volumes.keys(), mounts.keys())
        files = self.bicep.files()
        mounted = {}
        for name, volume in volumes.items():
            for item in volume["secrets"]:
                secret = self.secrets[item["secretRef"]]
                mounted[f"{mounts[name]}/{item['path']}"] = files.get(secret.get("value"))
        folder = DEPLOY / "container-apps"
        policies = [one for one in (folder / "policies").iterdir() if not one.name.endswith(".test.yaml")]
        expected = {f"/etc/policies/{one.name}": one for one in policies}
        expected["/etc/portcullis/gateway.yaml"] = folder / "portcullis/gateway.yaml"
        expected |= {"/secrets/seal.keys": None, "/secrets/fingerprint.key": None}
        self.assertEqual(mounted, expected)

    def test_what_is_mounted_is_what_makes_a_new_revision(self):
        self.assertEqual(set(self.bicep.files()), {"gatewayConfig", "policy"})
        self.assertIn("uniqueString(gatewayConfig, policy)", self.bicep.text)

    def test_the_identity_is_the_one_that_roles_and_secrets_name(self):
        self.assertIn("'${identity.id}': {}", self.bicep.text)
        for name in ("readSeal", "readFingerprint"):
            self.assertIn(name, self.bicep.resources["containerApp"]["config"]["dependsOn"])


class AppService(unittest.TestCase):
    def setUp(self):
        self.bicep = Bicep(SITE)

    def test_the_gateway_alone_is_the_main_container(self):
        containers = {name: one["config"]["properties"] for name, one in self.bicep.made().items() if one["type"].endswith("/sitecontainers")}
        self.assertEqual({name: one["isMain"] for name, one in containers.items()}, {"gateway": True, "app": False})
        self.assertFalse(containers["app"]["inheritAppSettingsAndConnectionStrings"])
        self.assertEqual(len({one["targetPort"] for one in containers.values()}), 2)

    def test_secrets_are_references_to_key_vault(self):
        settings = self.bicep.resources["site"]["config"]["properties"]["siteConfig"]["appSettings"]
        for one in settings:
            if one["name"].startswith("PORTCULLIS_"):
                self.assertTrue(one["value"].startswith("@Microsoft.KeyVault(SecretUri="), one)

    def test_the_image_holds_the_files_that_are_there(self):
        lines = (SITE.parent / "Dockerfile").read_text().splitlines()
        copied = [line.split()[1] for line in lines if line.startswith("COPY ")]
        policies = [f"policies/{one.name}" for one in (SITE.parent / "policies").iterdir() if not one.name.endswith(".test.yaml")]
        self.assertEqual(sorted(copied), sorted(["gateway.yaml", *policies]))
