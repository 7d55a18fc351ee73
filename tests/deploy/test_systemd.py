"""The units: as systemd reads them, how much they leave open, and the gateway on a socket that systemd opened."""

import re
import shutil
import socket
import ssl
import subprocess
import tempfile
import time
import unittest
from pathlib import Path

from support import DEPLOY, PORTCULLIS, read, run

# In tenths, as systemd counts: 0 is closed, 100 open. It stands at 12 with systemd 252.
THRESHOLD = 15


def calls(group: str) -> set[str]:
    """The system calls of a group of systemd's, those of the groups in it, too."""
    found = set()
    for line in run("systemd-analyze", "syscall-filter", group).stdout.splitlines()[1:]:
        name = line.strip()
        if name.startswith("@"):
            found |= calls(name)
        elif name and not name.startswith("#"):
            found.add(name)
    return found


def filtered(unit: str) -> set[str]:
    """The system calls that a unit lets through."""
    left = set()
    for value in re.findall(r"(?m)^SystemCallFilter=(.*)$", unit):
        groups = set().union(*(calls(one) for one in value.lstrip("~").split()))
        left = left - groups if value.startswith("~") else left | groups
    return left


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def ask(port: int) -> bytes:
    """The first line of the answer to a request over TLS."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection(("127.0.0.1", port), timeout=30) as plain:
        with context.wrap_socket(plain, server_hostname="localhost") as tls:
            tls.sendall(b"GET /nowhere HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            return tls.recv(4096).split(b"\r\n")[0]


class Units(unittest.TestCase):
    def verified(self, text: str) -> str:
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "portcullis.service").write_text(text.replace("/usr/bin/portcullis", PORTCULLIS))
            shutil.copy(DEPLOY / "systemd/portcullis.socket", folder)
            units = [Path(folder, f"portcullis.{kind}") for kind in ("service", "socket")]
            verified = run("systemd-analyze", "verify", *units)
            return verified.stderr + verified.stdout

    def test_systemd_takes_them_without_a_word(self):
        self.assertEqual(self.verified(read("systemd/portcullis.service")), "")

    def test_faults_are_found(self):
        text = read("systemd/portcullis.service")
        self.assertIn("Unknown key", self.verified(text.replace("ProtectHome=", "ProtectHme=")))
        self.assertIn("portcullis.socke", self.verified(text.replace("Requires=portcullis.socket", "Requires=portcullis.socke")))

    def security(self, text: str) -> int:
        with tempfile.TemporaryDirectory() as folder:
            unit = Path(folder, "portcullis.service")
            unit.write_text(text)
            return run("systemd-analyze", "security", "--offline=true", f"--threshold={THRESHOLD}", unit).returncode

    def test_little_is_left_open(self):
        text = read("systemd/portcullis.service")
        self.assertEqual(self.security(text), 0)
        self.assertNotEqual(self.security(text.replace("ProtectSystem=strict\n", "").replace("PrivateDevices=yes\n", "")), 0)


class Activation(unittest.TestCase):
    def test_the_gateway_serves_on_a_socket_that_systemd_opened_and_asks_the_kernel_for_nothing_that_is_filtered(self):
        with tempfile.TemporaryDirectory() as folder:
            port = self.placed(folder)
            trace = Path(folder, "trace")
            command = ["systemd-socket-activate", "-l", f"127.0.0.1:{port}"]
            # Beside the gateway and not its parent, for LISTEN_PID names the process that gets the socket.
            command += ["strace", "-D", "-f", "-q", "-e", "signal=none", "-o", trace, PORTCULLIS, "run", "--config", "gateway.yaml"]
            process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
            try:
                self.connectable(port)
                self.assertEqual(ask(port), b"HTTP/1.1 401 Unauthorized")
                self.assertEqual(ask(port), b"HTTP/1.1 401 Unauthorized")
            finally:
                process.terminate()
                _, said = process.communicate(timeout=60)
            self.assertEqual(process.returncode, 0, said)
            self.assertIn('"event":"started"', said)
            asked = set(re.findall(r"(?m)^\d+ +(\w+)\(", trace.read_text()))
            self.assertIn("epoll_wait", asked)
            self.assertEqual(asked - filtered(read("systemd/portcullis.service")), set())
            families = set(re.findall(r"socket\((AF_\w+)", trace.read_text()))
            allowed = re.search(r"RestrictAddressFamilies=(.*)", read("systemd/portcullis.service")).group(1)
            self.assertLessEqual(families, set(allowed.split()))

    def placed(self, folder: str) -> int:
        """systemd/gateway.yaml with other paths and ports."""
        port = free_port()
        shutil.copytree(DEPLOY / "compose/portcullis/policies", Path(folder, "policies"))
        request = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -days 1 -subj /CN=localhost"
        run(*request.split(), "-keyout", "tls.key", "-out", "tls.crt", cwd=folder)
        Path(folder, "seal.keys").write_text("0123456789abcdef0123456789abcdef\n")
        for name in ("state", "log"):
            Path(folder, name).mkdir()
        text = read("systemd/gateway.yaml")
        for old, new in [
            ("0.0.0.0:443", f"127.0.0.1:{port}"),
            ("127.0.0.1:9901", "127.0.0.1:0"),
            ("/etc/portcullis", folder),
            ("/var/lib/portcullis", f"{folder}/state"),
            ("/var/log/portcullis", f"{folder}/log"),
        ]:
            self.assertIn(old, text)
            text = text.replace(old, new)
        Path(folder, "gateway.yaml").write_text(text)
        return port

    def connectable(self, port: int):
        """Waits until the socket is open; who connects starts the gateway."""
        until = time.monotonic() + 30
        while time.monotonic() < until:
            with socket.socket() as one:
                if one.connect_ex(("127.0.0.1", port)) == 0:
                    return
        self.fail("nobody opened the socket")
