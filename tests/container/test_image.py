"""What holds of the gateway's image, and of a gateway that runs from it."""

import errno
import json
import os
import re
import shutil
import ssl
import subprocess
import tempfile
import unittest
import urllib.request
from pathlib import Path

import container
from container import FIRST_ID, Container, Image

ROOT = Path(__file__).resolve().parents[2]
PORTCULLIS = os.environ["PORTCULLIS"]
LIMIT = 25_000_000
USER = 65_532
# The whole of the image: whose each file is, and its mode.
FILES = {
    "/etc": (0, "40755"),
    "/etc/ssl": (0, "40755"),
    "/etc/ssl/certs": (0, "40755"),
    "/etc/ssl/certs/ca-certificates.crt": (0, "100644"),
    "/portcullis": (0, "100755"),
    "/usr": (0, "40755"),
    "/usr/share": (0, "40755"),
    "/usr/share/portcullis": (0, "40755"),
    "/usr/share/portcullis/LICENCES.txt.gz": (0, "100644"),
    "/usr/share/portcullis/LICENSE": (0, "100644"),
    "/usr/share/portcullis/sbom.cdx.json": (0, "100644"),
    "/var": (0, "40755"),
    "/var/lib": (0, "40755"),
    "/var/lib/portcullis": (USER, "40755"),
}


def setUpModule():
    global folder, image, runtime
    folder = Path(tempfile.mkdtemp(prefix="portcullis-image-"))
    unittest.addModuleCleanup(shutil.rmtree, folder)
    folder.chmod(0o711)
    layout = folder / "layout"
    layout.mkdir()
    subprocess.run(["tar", "-xf", os.environ["IMAGE"], "-C", layout], check=True)
    image = Image(layout)
    runtime = container.runtime(image)
    print(f"containers are run by {runtime.name}")


class Contents(unittest.TestCase):
    """The image as it lies there."""

    @classmethod
    def setUpClass(cls):
        bundle = folder / "bundle"
        image.unpack(bundle)
        cls.root = bundle / "rootfs"
        cls.own = cls.root / "usr/share/portcullis"

    def test_there_is_nothing_but_the_gateway_and_what_it_needs(self):
        found = {}
        for path in self.root.rglob("*"):
            status = path.lstat()
            self.assertEqual(status.st_uid, status.st_gid)
            found[f"/{path.relative_to(self.root)}"] = (status.st_uid - FIRST_ID, f"{status.st_mode:o}")
        self.assertEqual(found, FILES)

    def test_the_binary_needs_no_library_and_no_loader(self):
        headers = subprocess.run(
            ["readelf", "--wide", "--program-headers", "--dynamic", self.root / "portcullis"],
            check=True, stdout=subprocess.PIPE, text=True,
        ).stdout  # fmt: skip
        self.assertNotIn("INTERP", headers)
        self.assertNotIn("(NEEDED)", headers)

    def test_it_says_who_runs_what_and_how_it_ends(self):
        said = {name: image.config[name] for name in ("User", "Entrypoint", "Cmd", "ExposedPorts", "StopSignal")}
        self.assertEqual(said, {
            "User": "65532:65532",
            "Entrypoint": ["/portcullis"],
            "Cmd": ["run", "--config", "/etc/portcullis/gateway.yaml"],
            "ExposedPorts": {"8443/tcp": {}, "9901/tcp": {}},
            "StopSignal": "SIGTERM",
        })  # fmt: skip
        labels = {name.removeprefix("org.opencontainers.image."): value for name, value in image.config["Labels"].items()}
        self.assertEqual(set(labels), {"title", "description", "licenses", "version", "revision"})
        version = subprocess.run([PORTCULLIS, "--version"], check=True, stdout=subprocess.PIPE, text=True).stdout
        self.assertEqual(version, f"portcullis {labels['version']}\n")

    def test_the_bill_of_materials_names_all_that_is_linked(self):
        bill = json.loads((self.own / "sbom.cdx.json").read_text())
        named = {(one["name"], f"v{one['version']}") for one in bill["components"]}
        named.add((bill["metadata"]["component"]["name"], f"v{bill['metadata']['component']['version']}"))
        linked = {tuple(line.split()[:2]) for line in Path(os.environ["LINKED"]).read_text().splitlines() if line}
        self.assertGreater(len(linked), 100)
        self.assertEqual(linked - named, set())
        others = {re.sub("[0-9]+", "N", name) for name, _ in named - linked}
        self.assertEqual(others, {"rust-std", "ca-certificates", "libcN-dev", "libgcc-N-dev"})
        references = [one["bom-ref"] for one in bill["components"]] + [bill["metadata"]["component"]["bom-ref"]]
        self.assertEqual(len(references), len(set(references)))
        needed = {reference for one in bill["dependencies"] for reference in [one["ref"], *one.get("dependsOn", [])]}
        self.assertEqual(needed, set(references))

    def test_it_is_small(self):
        size = sum(path.lstat().st_size for path in self.root.rglob("*") if path.is_file())
        packed = sum(layer["size"] for layer in image.layers)
        print(f"{size} bytes, {packed} packed", end=" ... ", flush=True)
        if "NOT_TO_SHIP" not in os.environ:
            self.assertLess(size, LIMIT)


class Demo:
    """The small Azure of `portcullis demo`, with a configuration for a gateway in front of it."""

    def __enter__(self):
        quiet = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
        self.running = subprocess.Popen([PORTCULLIS, "demo"], **quiet)
        invitation = []
        for line in self.running.stdout:
            invitation.append(line)
            if line.startswith("The gateway's log follows"):
                break
        invitation = "".join(invitation)
        self.config = Path(re.search(r"^configuration +(.*)/gateway.yaml", invitation, re.MULTILINE)[1])
        self.identity = re.findall(r"IDENTITY_(?:ENDPOINT|HEADER)=\S+", invitation)
        # Beside the demo's own gateway.
        self.change("gateway.yaml", r"address: 127.0.0.1:\d+", "address: 127.0.0.1:0")
        return self

    def change(self, name, old, new):
        path = self.config / name
        path.write_text(re.sub(old, new, path.read_text()))

    def believe_the_platform(self):
        """Nothing says any more in whom to believe."""
        self.change("gateway.yaml", r"(?m)^ +ca: certs/ca.crt.*\n|^keyVault:.*\n", "")
        self.change("policies/contoso.yaml", r"(?m)^ +ca: .*\n", "")

    def __exit__(self, *_):
        self.running.terminate()
        self.running.communicate()


class Running(unittest.TestCase):
    """A gateway in a container."""

    def setUp(self):
        self.demo = self.enterContext(Demo())
        self.ca = ssl.create_default_context(cafile=self.demo.config / "certs/ca.crt")
        self.token = (self.demo.config / "nightly-batch.token").read_text()

    def start(self, environment=(), arguments=None):
        one = Container(image, self.demo.config, [*self.demo.identity, *environment], arguments)
        one.start(runtime, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.addCleanup(one.running.stdout.close)
        self.addCleanup(one.running.wait)
        self.addCleanup(one.remove)
        return one

    def serve(self, environment=()):
        """Starts a gateway; returns it and its address once it listens."""
        one = self.start(environment)
        for line in one.running.stdout:
            event = json.loads(line)
            if event.get("event") == "started":
                return one, event["detail"].split()[-1]
        self.fail("it did not start")

    def status(self, address):
        port = address.rsplit(":", 1)[1]
        headers = {"Authorization": f"Bearer {self.token}"}
        request = urllib.request.Request(f"https://localhost:{port}/guests/42", headers=headers)
        with urllib.request.urlopen(request, context=self.ca, timeout=30) as answer:
            return answer.status

    def test_it_has_no_more_than_it_needs(self):
        one, address = self.serve()
        self.assertEqual(self.status(address), 200)
        process = Path("/proc", str(one.process()))
        status = dict(line.split(":\t", 1) for line in (process / "status").read_text().splitlines() if ":\t" in line)
        with self.subTest("whose it is"):
            self.assertEqual(status["Uid"].split(), [str(FIRST_ID + USER)] * 4)
            self.assertEqual(status["Gid"].split(), [str(FIRST_ID + USER)] * 4)
            self.assertEqual(status["Groups"].strip(), "")
            inside, outside, _ = (int(part) for part in (process / "uid_map").read_text().split())
            self.assertEqual(FIRST_ID + USER - outside + inside, USER)
        with self.subTest("capabilities"):
            for kind in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
                self.assertEqual(int(status[kind], 16), 0, kind)
            self.assertEqual(status["NoNewPrivs"], "1")
        with self.subTest("namespaces"):
            self.assertEqual(status["NSpid"].split()[1:], ["1"])
            for kind in ("user", "mnt", "pid", "ipc"):
                self.assertNotEqual((process / "ns" / kind).readlink(), Path("/proc/self/ns", kind).readlink(), kind)
        with self.subTest("what it can write"):
            # Root of the machine may write wherever the file system can be written at all.
            for place in ("/", "/etc", "/etc/portcullis", "/var/lib/portcullis"):
                with self.assertRaises(OSError) as refused:
                    Path(process, "root", place.lstrip("/"), "new").touch()
                self.assertEqual(refused.exception.errno, errno.EROFS, place)

    def test_it_ends_in_order_when_it_is_told_to(self):
        one, address = self.serve()
        self.assertEqual(self.status(address), 200)
        one.end()
        # As long as the configuration gives it to drain.
        self.assertEqual(one.running.wait(timeout=5), 0)

    def test_it_believes_the_certificates_of_the_image(self):
        self.demo.believe_the_platform()
        doctor = self.start(arguments=["doctor", "--config", "/etc/portcullis/gateway.yaml"])
        # There are some, and the demo's is none of them.
        self.assertIn("invalid peer certificate: UnknownIssuer", doctor.running.stdout.read())

    def test_it_believes_other_certificates_if_the_environment_says_so(self):
        self.demo.believe_the_platform()
        _, address = self.serve(["SSL_CERT_FILE=/etc/portcullis/certs/ca.crt"])
        self.assertEqual(self.status(address), 200)


class Story(unittest.TestCase):
    """The demo's story, with the gateway in a container."""

    def test_every_row_is_as_expected(self):
        gateway = ROOT / "tests/container/gateway"
        environment = os.environ | {"PORTCULLIS_IMAGE": str(image.layout), "CONTAINER_RUNTIME": runtime.name}
        told = subprocess.run(
            [PORTCULLIS, "demo", "--check", "--gateway", gateway],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120,
        )  # fmt: skip
        self.assertEqual(told.returncode, 0, told.stdout)
        self.assertRegex(told.stdout, r"\d+ requests, all as expected")
        ended = json.loads((folder / "ended.json").read_text())
        self.assertEqual(ended["code"], 0)
        self.assertLess(ended["seconds"], 5)
