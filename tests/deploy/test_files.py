"""What every way to run the gateway has: files that `check` takes, ports that agree, and time enough to end."""

import shutil
import tempfile
import unittest
from pathlib import Path

from bicep import Bicep
from support import DEPLOY, PORTCULLIS, documents, read, run, seconds, told

GATEWAYS = {
    "container-apps": "container-apps/portcullis/gateway.yaml",
    "aks": "aks/portcullis/gateway.yaml",
    "app-service": "app-service/gateway.yaml",
    "compose": "compose/portcullis/gateway.yaml",
    "systemd": "systemd/gateway.yaml",
}
# Meant so: probes come from outside, and tell no more than they must.
EXPECTED = "anybody may reach this address, so it tells no more than `/livez` and `/readyz`"


def gateway(name: str) -> dict:
    return documents(read(GATEWAYS[name]))[0]


def port(name: str, section: str = "listen") -> int:
    return int(gateway(name)[section]["address"].rsplit(":", 1)[1])


def named(items: list, name: str) -> dict:
    return next(one for one in items if one["name"] == name)


def service(name: str) -> dict[str, str]:
    lines = [line.split("=", 1) for line in read(f"systemd/{name}").splitlines() if "=" in line and not line.startswith("#")]
    return {key: value for key, value in lines}


def graces() -> dict[str, float]:
    """How long each platform waits behind SIGTERM, by what is written here."""
    apps = Bicep(DEPLOY / "container-apps/main.bicep").resources["containerApp"]["config"]["properties"]
    site = Bicep(DEPLOY / "app-service/main.bicep").resources["site"]["config"]["properties"]
    stop = named(site["siteConfig"]["appSettings"], "WEBSITES_CONTAINER_STOP_TIME_LIMIT")
    pod = documents(read("aks/deployment.yaml"))[0]["spec"]["template"]["spec"]
    compose = documents(read("compose/compose.yaml"))[0]["services"]["gateway"]
    return {
        "container-apps": apps["template"]["terminationGracePeriodSeconds"],
        "aks": pod["terminationGracePeriodSeconds"],
        "app-service": int(stop["value"]),
        "compose": seconds(compose["stop_grace_period"]),
        "systemd": seconds(service("portcullis.service")["TimeoutStopSec"]),
    }


class Files(unittest.TestCase):
    def placed(self, folder: str, name: str) -> Path:
        """A copy of a deployment with certificates, and policies for the one that brings none."""
        copy = Path(folder, name)
        shutil.copytree(DEPLOY / name, copy)
        made = run(
            *"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -days 1 -subj /CN=localhost".split(),
            *("-keyout", copy / "tls.key", "-out", copy / "tls.crt"),
        )
        self.assertEqual(made.returncode, 0, made.stderr)
        if not list(copy.rglob("policies")):
            shutil.copytree(DEPLOY / "compose/portcullis/policies", copy / "policies")
        file = Path(folder, GATEWAYS[name])
        text = file.read_text().replace("/certs/tls", f"{copy}/tls").replace("/etc/portcullis/tls", f"{copy}/tls")
        file.write_text(text)
        return file

    def test_check_takes_every_gateway_yaml(self):
        for name in GATEWAYS:
            with self.subTest(name), tempfile.TemporaryDirectory() as folder:
                file = self.placed(folder, name)
                self.assertEqual({message for severity, message in told(file) if severity == "error"}, set())
                if name not in ("compose", "systemd"):
                    self.assertEqual({message for _, message in told(file)} - {EXPECTED}, set())

    def test_check_finds_what_is_wrong_with_them(self):
        with tempfile.TemporaryDirectory() as folder:
            file = self.placed(folder, "app-service")
            file.write_text(file.read_text().replace("timeout: 40s", "timeot: 40s"))
            self.assertTrue([message for severity, message in told(file) if severity == "error"])

    def test_the_policies_pass_their_tests_and_every_near_miss_is_refused(self):
        for name in ("container-apps", "aks", "app-service"):
            with self.subTest(name):
                tested = run(PORTCULLIS, "test", DEPLOY / name / "policies", "--attack", "--min-coverage", "100")
                self.assertEqual(tested.returncode, 0, tested.stdout)

    def test_files_are_in_their_one_form(self):
        for file in sorted(DEPLOY.rglob("policies")) + [DEPLOY / one for one in GATEWAYS.values()]:
            with self.subTest(str(file.relative_to(DEPLOY))):
                self.assertEqual(run(PORTCULLIS, "fmt", "--check", file).returncode, 0)

    def test_a_mounted_config_map_is_read_through_its_links(self):
        """As the kubelet lays it: `..data` leads to a hidden folder, and each file is a link into it."""
        with tempfile.TemporaryDirectory() as folder:
            policies = Path(folder, "policies")
            hidden = policies / "..2026_11_28_04_00_00.123456789"
            hidden.mkdir(parents=True)
            shutil.copy(DEPLOY / "aks/policies/contoso.yaml", hidden)
            (policies / "..data").symlink_to(hidden.name)
            (policies / "contoso.yaml").symlink_to("..data/contoso.yaml")
            self.assertEqual([one for one in told(policies) if one[0] == "error"], [])


class Variants(unittest.TestCase):
    def test_check_takes_each_of_them(self):
        variants = sorted((DEPLOY / "variants").glob("*.yaml"))
        self.assertGreater(len(variants), 2)
        for variant in variants:
            with self.subTest(variant.name):
                self.assertEqual([one for one in told(variant) if one[0] == "error"], [])


class Agreement(unittest.TestCase):
    def test_the_drain_ends_before_the_platform_kills(self):
        found = graces()
        self.assertEqual(found.keys(), GATEWAYS.keys())
        for name, grace in found.items():
            drain = gateway(name)["drain"]
            with self.subTest(name):
                self.assertLess(seconds(drain["delay"]) + seconds(drain["timeout"]) + 2, grace)
        self.assertLessEqual(found["app-service"], 120)

    def test_callers_are_sent_to_the_port_that_the_gateway_listens_on(self):
        apps = Bicep(DEPLOY / "container-apps/main.bicep").resources["containerApp"]["config"]["properties"]
        self.assertEqual(apps["configuration"]["ingress"]["targetPort"], port("container-apps"))
        main = Bicep(DEPLOY / "app-service/main.bicep").resources["gateway"]["config"]["properties"]
        self.assertEqual(int(main["targetPort"]), port("app-service"))
        self.assertIn(port("app-service"), [80, 8080])
        container = documents(read("aks/deployment.yaml"))[0]["spec"]["template"]["spec"]["containers"][0]
        self.assertEqual(named(container["ports"], "https")["containerPort"], port("aks"))
        published = documents(read("compose/compose.yaml"))[0]["services"]["gateway"]["ports"]
        self.assertIn(f"127.0.0.1:{port('compose')}:{port('compose')}", published)
        self.assertEqual(service("portcullis.socket")["ListenStream"], gateway("systemd")["listen"]["address"])

    def test_probes_ask_the_admin_address(self):
        variables = Bicep(DEPLOY / "container-apps/main.bicep").variables
        probes = [one["httpGet"] for one in variables["gateway"]["probes"]]
        self.assertEqual({one["port"] for one in probes}, {port("container-apps", "admin")})
        self.assertEqual([one["path"] for one in probes], ["/livez", "/livez", "/readyz"])
        container = documents(read("aks/deployment.yaml"))[0]["spec"]["template"]["spec"]["containers"][0]
        self.assertEqual(named(container["ports"], "admin")["containerPort"], port("aks", "admin"))
        probes = [container[one]["httpGet"] for one in ("startupProbe", "livenessProbe", "readinessProbe")]
        self.assertEqual([one["path"] for one in probes], ["/livez", "/livez", "/readyz"])
        self.assertEqual({one["port"] for one in probes}, {"admin"})

    def test_the_app_beside_the_gateway_listens_where_the_policy_sends(self):
        apps = Bicep(DEPLOY / "container-apps/main.bicep").parameters["appEnvironment"]["default"]
        site = Bicep(DEPLOY / "app-service/main.bicep").parameters["appUrl"]["default"]
        app = documents(read("aks/deployment.yaml"))[0]["spec"]["template"]["spec"]["initContainers"][0]
        for name, url in [
            ("container-apps", named(apps, "ASPNETCORE_URLS")["value"]),
            ("app-service", site),
            ("aks", named(app["env"], "ASPNETCORE_URLS")["value"]),
        ]:
            policy = documents(read(f"{name}/policies/contoso.yaml"))[0]
            self.assertEqual(policy["backends"]["guest-api"]["function"], url, name)
