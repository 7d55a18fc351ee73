"""The Compose file: against the schema of the Compose specification, and against what it mounts."""

import shutil
import sys
import tempfile
import unittest
from pathlib import Path

from support import DEPLOY, PORTCULLIS, documents, read, run

CHECKER = Path(sys.executable).with_name("check-jsonschema")


def fits(text: str):
    """Whether a Compose file fits the schema, and what is said of it."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "compose.yaml")
        file.write_text(text)
        checked = run(CHECKER, "--builtin-schema", "vendor.compose-spec", file)
        return checked.returncode == 0, checked.stdout


class Compose(unittest.TestCase):
    def setUp(self):
        self.text = read("compose/compose.yaml")
        self.services = documents(self.text)[0]["services"]

    def test_it_fits_the_schema(self):
        good, said = fits(self.text)
        self.assertTrue(good, said)

    def test_faults_are_found(self):
        for old, new in [("stop_grace_period", "stop_grace_perod"), ("cap_drop: [ALL]", "cap_drop: ALL"), ("mem_limit: 512m", "mem_limit: [512m]")]:
            self.assertIn(old, self.text)
            self.assertFalse(fits(self.text.replace(old, new))[0], new)

    def test_no_service_may_more_than_it_needs(self):
        for name, service in self.services.items():
            with self.subTest(name):
                self.assertTrue(service["read_only"])
                self.assertEqual(service["cap_drop"], ["ALL"])
                self.assertEqual(service["security_opt"], ["no-new-privileges:true"])
                self.assertNotIn(service["user"].split(":")[0], ["0", "root"])

    def test_what_is_published_is_published_on_loopback(self):
        for port in self.services["gateway"]["ports"]:
            self.assertTrue(port.startswith("127.0.0.1:"), port)
        self.assertEqual(self.services["hello"]["network_mode"], "service:gateway")
        self.assertNotIn("ports", self.services["hello"])

    def test_prepare_makes_what_is_mounted_and_the_gateway_takes_it(self):
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder, "compose")
            shutil.copytree(DEPLOY / "compose", copy, ignore=shutil.ignore_patterns("certs"))
            self.assertEqual(run(copy / "prepare").returncode, 0)
            before = (copy / "certs/seal.keys").read_text()
            self.assertEqual(run(copy / "prepare").returncode, 0)
            self.assertEqual((copy / "certs/seal.keys").read_text(), before)
            for service in self.services.values():
                for volume in service.get("volumes", []):
                    self.assertTrue((copy / volume["source"]).is_dir(), volume)
            file = copy / "portcullis/gateway.yaml"
            file.write_text(file.read_text().replace("/certs/", f"{copy}/certs/"))
            checked = run(PORTCULLIS, "check", file)
            self.assertEqual(checked.returncode, 0, checked.stdout + checked.stderr)
