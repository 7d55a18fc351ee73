"""Where things stand, and what several tests ask of them."""

import json
import os
import re
import subprocess
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
PORTCULLIS = os.environ["PORTCULLIS"]


def read(name: str) -> str:
    """A file below deploy/."""
    return (DEPLOY / name).read_text()


def documents(text: str) -> list:
    """Every document of a YAML text."""
    return [document for document in yaml.safe_load_all(text) if document is not None]


def run(*arguments, **options) -> subprocess.CompletedProcess:
    """Runs a command and keeps what it says; it may fail."""
    return subprocess.run([str(one) for one in arguments], capture_output=True, text=True, timeout=120, **options)


def seconds(duration: str) -> float:
    """A duration of gateway.yaml."""
    number, unit = re.fullmatch(r"(\d+)(ms|s|m|h|d)", duration).groups()
    return int(number) * {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}[unit]


def told(path: Path) -> list[tuple[str, str]]:
    """What `portcullis check` says of a file or folder: severities and messages."""
    output = run(PORTCULLIS, "check", "--format", "json", path.name, cwd=path.parent)
    return [(one["severity"], one["message"]) for one in json.loads(output.stdout)]
