"""Scans a gateway of its own, once for each policy of TLS."""

import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import unittest
import xml.etree.ElementTree as ElementTree
from pathlib import Path

HERE = Path(__file__).parent
ACCOUNTED = json.loads((HERE / "findings.json").read_text())
# Findings that say that all is well, or only what is there.
CALM = {"OK", "INFO"}


def run(*command, cwd=None):
    return subprocess.run(command, cwd=cwd, check=True, capture_output=True, text=True).stdout


def certify(folder):
    """A CA, and a certificate by it for a common lifetime."""
    curve = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes".split()
    run("openssl", "req", "-x509", *curve, "-keyout", "ca.key", "-out", "ca.crt", "-days", "365", "-subj", "/CN=CA",
        "-addext", "keyUsage=critical,keyCertSign,cRLSign", cwd=folder)
    run("openssl", "req", "-new", *curve, "-keyout", "tls.key", "-out", "tls.csr", "-subj", "/CN=localhost", cwd=folder)
    (folder / "names").write_text(
        "subjectAltName=DNS:localhost\nkeyUsage=critical,digitalSignature\nextendedKeyUsage=serverAuth\n")
    run("openssl", "x509", "-req", "-in", "tls.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial",
        "-out", "tls.crt", "-days", "90", "-extfile", "names", cwd=folder)


class Gateway:
    """A gateway with one policy of TLS, and nothing behind it."""

    def __init__(self, folder, policy):
        config = folder / f"{policy}.yaml"
        config.write_text(
            "listen:\n  address: 127.0.0.1:0\n"
            f"  tls: {{ certificates: [{{ cert: tls.crt, key: tls.key }}], policy: {policy} }}\n"
            "policies: policy.yaml\nentra: { authority: 'http://127.0.0.1:1' }\n")
        (folder / "policy.yaml").write_text(
            "backends: { none: { http: 'http://127.0.0.1:1', credential: none } }\n"
            "routes: { all: { match: { methods: [GET], path: '/{*rest}' }, backend: none, public: true } }\n")
        self.process = subprocess.Popen(
            [os.environ["PORTCULLIS"], "run", "--config", config], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            text=True)
        for line in self.process.stderr:
            found = re.search(r"listening on 127\.0\.0\.1:(\d+)", line)
            if found:
                self.port = found.group(1)
                break
        else:
            raise AssertionError("the gateway did not start")
        # It must never wait for somebody to read what it tells.
        self.reader = threading.Thread(target=self.process.stderr.read)
        self.reader.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()
        self.reader.join()
        self.process.stderr.close()


class Scans(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.temporary = tempfile.TemporaryDirectory()
        cls.folder = Path(cls.temporary.name)
        certify(cls.folder)

    @classmethod
    def tearDownClass(cls):
        cls.temporary.cleanup()

    def scanned(self, policy):
        report = self.folder / f"{policy}.json"
        with Gateway(self.folder, policy) as gateway:
            subprocess.run(
                ["testssl", "--quiet", "--color", "0", "--ip", "127.0.0.1", "--warnings", "off", "--add-ca",
                 self.folder / "ca.crt", "--jsonfile", report, f"localhost:{gateway.port}"],
                stdout=subprocess.DEVNULL, check=False)
        findings = json.loads(report.read_text())
        self.assertGreater(len(findings), 60, "it has looked at all that it looks at")
        found = {one["id"]: one for one in findings}
        self.assertEqual(len(found), len({one["id"] for one in findings}))
        for protocol in ("SSLv2", "SSLv3", "TLS1", "TLS1_1"):
            self.assertEqual(found[protocol]["finding"], "not offered", protocol)
        self.assertIn("offered", found["TLS1_3"]["finding"])
        unsteady = {(id, told["finding"]) for id, told in ACCOUNTED["unsteady"].items()}
        uneasy = {one["id"] for one in findings
                  if one["severity"] not in CALM and (one["id"], one["finding"]) not in unsteady}
        accounted = {id for id, told in ACCOUNTED["testssl"].items() if policy in told["policies"]}
        told = {id: found[id]["finding"] for id in uneasy - accounted}
        self.assertEqual(told, {}, "findings that nobody has accounted for")
        self.assertEqual(accounted - uneasy, set(), "accounted for, and not found any more")
        return found

    def test_intermediate_by_testssl(self):
        found = self.scanned("intermediate")
        self.assertEqual(found["TLS1_2"]["finding"], "offered")

    def test_modern_by_testssl(self):
        found = self.scanned("modern")
        self.assertEqual(found["TLS1_2"]["finding"], "not offered")

    def test_sessions_are_taken_up_again_by_openssl(self):
        spoken = [("intermediate", "tls1_2"), ("intermediate", "tls1_3"), ("modern", "tls1_3")]
        for policy, version in spoken:
            with self.subTest(policy, version=version), Gateway(self.folder, policy) as gateway:
                session = self.folder / f"{policy}-{version}"
                client = ["openssl", "s_client", "-connect", f"localhost:{gateway.port}", "-ign_eof", f"-{version}"]
                # It reads a whole answer, and so a ticket that came before it.
                request = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
                first = subprocess.run([*client, "-sess_out", session], input=request, capture_output=True, text=True)
                second = subprocess.run([*client, "-sess_in", session], input=request, capture_output=True, text=True)
                self.assertIn("\nNew, ", first.stdout)
                self.assertIn("\nReused, ", second.stdout, second.stderr)

    def test_both_by_sslscan(self):
        for policy in ("intermediate", "modern"):
            with self.subTest(policy), Gateway(self.folder, policy) as gateway:
                report = run("sslscan", "--xml=-", "--no-colour", f"localhost:{gateway.port}")
                scan = ElementTree.fromstring(report).find("ssltest")
                spoken = {f'{one.get("type")} {one.get("version")}' for one in scan.iter("protocol")
                          if one.get("enabled") == "1"}
                ciphers = {one.get("cipher") for one in scan.iter("cipher")}
                groups = {one.get("name") for one in scan.iter("group")}
                self.assertEqual(spoken, set(ACCOUNTED["sslscan"][policy]["protocols"]))
                self.assertEqual(ciphers, set(ACCOUNTED["sslscan"][policy]["ciphers"]))
                self.assertEqual(groups, set(ACCOUNTED["sslscan"][policy]["groups"]))
                for one in scan.iter("heartbleed"):
                    self.assertEqual(one.get("vulnerable"), "0")
                self.assertEqual(scan.find("renegotiation").get("supported"), "0")


if __name__ == "__main__":
    result = unittest.main(exit=False, verbosity=1).result
    failed = len(result.failures) + len(result.errors)
    print(f"{result.testsRun - failed} passed, {failed} failed")
    sys.exit(failed != 0)
