"""The guides, run as they stand. Blocks marked `sh guide` are run by the real programs; in those marked `sh`, stand-ins
answer for what needs Azure, a cluster or another machine. Where az is installed, it reads every one of its commands."""

import json
import os
import re
import shutil
import sys
import tempfile
import unittest
from pathlib import Path

from bicep import Bicep
from support import DEPLOY, PORTCULLIS, ROOT, run

GUIDES = ROOT / "docs/guides"
STAND_INS = ["az", "curl", "docker", "kubectl", "sudo", "systemctl"]
AZ = os.environ.get("PORTCULLIS_AZ") or shutil.which("az")


def blocks(document: str) -> list[tuple[str, str]]:
    """Fenced blocks: what stands behind the fence, and the text."""
    return re.findall(r"(?ms)^```([^\n]*)\n(.*?)^```$", document)


def script(document: str) -> str:
    """All blocks of shell as one script."""
    lines = ["set -euo pipefail"]
    for kind, text in blocks(document):
        if kind == "sh":
            lines += ['PATH="$STAND_INS:$REAL"', text]
        elif kind == "sh guide":
            lines += ['PATH="$REAL"', text]
    return "\n".join(lines)


class Guides(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.temporary = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.temporary.cleanup)
        cls.folder = Path(cls.temporary.name, "repository")
        for name in ("deploy", "docs"):
            shutil.copytree(ROOT / name, cls.folder / name)
        # What only the reader has.
        (cls.folder / "portal.secret").write_text("secret")
        programs = Path(cls.temporary.name, "stand-ins")
        programs.mkdir()
        for name in STAND_INS:
            file = programs / name
            answers = Path(__file__).parent / "guides/answers.py"
            file.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{answers}" {name} "$@"\n')
            file.chmod(0o755)
        (Path(cls.temporary.name) / "bin").mkdir()
        (Path(cls.temporary.name) / "bin/portcullis").symlink_to(PORTCULLIS)
        real = f"{cls.temporary.name}/bin:{os.environ['PATH']}"
        cls.called = Path(cls.temporary.name, "called.jsonl")
        names = {f"GIT_{who}_{what}": "guide@example.com" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
        cls.environment = {"PATH": real, "HOME": cls.temporary.name, "STAND_INS": str(programs), "REAL": real, "CALLED": str(cls.called), **names}
        cls.closed = cls.read("close-a-logic-app.md")
        cls.between = cls.shell(
            """set -euo pipefail
            git init -q . && git add gate && git commit -qm 'The gate'
            sed -i 's/Guests.Invite/Guests.Invite.All/' gate/policies/contoso.yaml && git commit -qam 'A role that nobody has'"""
        )
        reader = {"GROUP": "invitations", "VAULT": "contoso-gate", "TRIGGER": "manual", "ID": "/workflows/invite-flow"}
        cls.back = cls.read("roll-back.md", **reader)
        cls.page = cls.shell(script((DEPLOY / "README.md").read_text()))

    @classmethod
    def shell(cls, text: str, **more):
        return run("bash", "-c", text, cwd=cls.folder, env={**cls.environment, **more})

    @classmethod
    def read(cls, name: str, **more):
        return cls.shell(script((GUIDES / name).read_text()), **more)

    def json(self, name: str):
        return json.loads((self.folder / name).read_text())

    def test_the_guide_to_a_closed_gate_runs_from_end_to_end(self):
        self.assertEqual(self.closed.returncode, 0, self.closed.stdout[-3000:] + self.closed.stderr[-3000:])
        for said in ["refused, as it should be", "old-links", "4 tests: 4 passed, 0 failed", "2 requests, 1 with a key in the URL", "these requests would be refused"]:
            self.assertIn(said, self.closed.stdout)

    def test_the_way_back_runs_from_end_to_end(self):
        self.assertEqual(self.between.returncode, 0, self.between.stderr)
        self.assertEqual(self.back.returncode, 0, self.back.stdout[-3000:] + self.back.stderr[-3000:])
        for said in ["lost by", "gained by", "somebody gains access", "4 tests: 4 passed, 0 failed"]:
            self.assertIn(said, self.back.stdout)

    def test_the_page_on_deploying_runs_from_end_to_end(self):
        self.assertEqual(self.page.returncode, 0, self.page.stdout[-3000:] + self.page.stderr[-3000:])

    def test_the_workflow_is_let_in_then_closed_then_opened_and_else_as_it_was(self):
        before = self.json("gate/workflow.before.json")
        for step in ("let-in", "closed", "reopened"):
            after = self.json(f"gate/workflow.{step}.json")
            self.assertEqual(after.keys(), {"location", "tags", "properties"})
            self.assertEqual(after["properties"].keys(), {"state", "definition", "parameters", "accessControl"})
            self.assertEqual(after["properties"]["definition"], before["properties"]["definition"])
            self.assertEqual(after["properties"]["accessControl"]["contents"], before["properties"]["accessControl"]["contents"])
        triggers = self.json("gate/workflow.let-in.json")["properties"]["accessControl"]["triggers"]
        claims = {one["name"]: one["value"] for one in triggers["openAuthenticationPolicies"]["policies"]["portcullis"]["claims"]}
        self.assertEqual(claims["iss"], "https://sts.windows.net/11111111-2222-3333-4444-555555555555/")
        self.assertEqual(claims["appid"], "cccccccc-1111-2222-3333-444444444444")
        policy = (self.folder / "gate/policies/contoso.yaml").read_text()
        self.assertIn(f"resource: {claims['aud']}", policy)
        self.assertNotIn("sasAuthenticationPolicy", triggers)
        triggers = self.json("gate/workflow.closed.json")["properties"]["accessControl"]["triggers"]
        self.assertEqual(triggers["sasAuthenticationPolicy"], {"state": "Disabled"})
        triggers = self.json("gate/workflow.reopened.json")["properties"]["accessControl"]["triggers"]
        self.assertEqual(triggers["sasAuthenticationPolicy"], {"state": "Enabled"})
        self.assertNotIn("allowedCallerIpAddresses", triggers)

    def test_the_template_gets_the_parameters_that_it_has(self):
        deployed = [json.loads(line) for line in self.called.read_text().splitlines()]
        deployed = [line for line in deployed if line[:4] == ["az", "deployment", "group", "create"]]
        self.assertEqual(len(deployed), 4)
        for line in deployed:
            source = self.folder / line[line.index("-f") + 1]
            parameters = Bicep(source).parameters
            given = {one.split("=")[0] for one in line[line.index("-p") + 1 :]}
            self.assertLessEqual(given, parameters.keys())
            needed = {name for name, one in parameters.items() if one["default"] is None}
            self.assertLessEqual(needed, given, source)

    def test_a_guide_that_does_not_hold_is_found(self):
        text = (GUIDES / "close-a-logic-app.md").read_text()
        for old, new in [("portcullis who-can POST /invitations", "portcullis who-can POST /invitation"), ("include \"workflow\"; let_in", "include \"workflow\"; letin")]:
            self.assertIn(old, text)
            with tempfile.TemporaryDirectory() as folder:
                for name in ("deploy", "docs"):
                    shutil.copytree(ROOT / name, Path(folder, name))
                Path(folder, "portal.secret").write_text("secret")
                said = run("bash", "-c", script(text.replace(old, new)), cwd=folder, env={**self.environment, "CALLED": "/dev/null"})
                self.assertNotEqual(said.returncode, 0, new)

    # The Azure CLI is too large to be installed for this; where it is, PORTCULLIS_AZ names it.
    if AZ:

        def test_az_understands_every_one_of_its_commands(self):
            """Without a login it reads all arguments, and then says that there is none."""
            commands = [json.loads(line)[1:] for line in self.called.read_text().splitlines() if json.loads(line)[0] == "az"]
            self.assertGreater(len(commands), 30)
            environment = {**os.environ, "AZURE_CONFIG_DIR": f"{self.temporary.name}/az", "AZURE_CORE_COLLECT_TELEMETRY": "false"}
            # Files that the guide removes once they are in the vault.
            for name in ("seal.keys", "fingerprint.key"):
                (self.folder / "gate" / name).write_text("x")
            for command in commands:
                if command != ["login"]:
                    with self.subTest(" ".join(command)[:100]):
                        command = [self.template(one) if one.endswith(".bicep") else one for one in command]
                        said = run(AZ, *command, cwd=self.folder, env=environment).stderr
                        self.assertIn("az login", said)
            said = run(AZ, *"containerapp revision copy -n a -g b --from-revsion c".split(), env=environment).stderr
            self.assertNotIn("az login", said)

    def template(self, name: str) -> str:
        """A template with the parameters of a Bicep file, in its place: az has no compiler here."""
        known = {}
        for parameter, one in Bicep(self.folder / name).parameters.items():
            known[parameter] = {"type": one["type"]} | ({} if one["default"] is None else {"defaultValue": one["default"]})
        file = self.folder / "template.json"
        schema = "https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#"
        file.write_text(json.dumps({"$schema": schema, "contentVersion": "1.0.0.0", "parameters": known, "resources": []}))
        return str(file)


class Links(unittest.TestCase):
    def test_every_link_leads_to_a_file(self):
        for document in [*GUIDES.glob("*.md"), DEPLOY / "README.md"]:
            for target in re.findall(r"\]\(([^)#]+)", document.read_text()):
                if not target.startswith("http"):
                    self.assertTrue((document.parent / target).exists(), f"{document.name}: {target}")
