"""Bicep files, read by a parser and held against the models of Microsoft's SDK for Python. It is no compiler: types of
expressions, scopes and functions are not looked at, and the parser tells a name and a text apart by what is expected."""

import re
from enum import Enum
from pathlib import Path

from azure.mgmt import appcontainers, authorization, web
from azure.mgmt.appcontainers import models as apps
from azure.mgmt.authorization.v2022_04_01 import models as roles
from azure.mgmt.web import models as sites
from pycep import BicepParser

# The model of each type of resource that is made, and the module whose version of the interface it is.
MODELS = {
    "Microsoft.App/containerApps": (apps, apps.ContainerApp),
    "Microsoft.Authorization/roleAssignments": (roles, roles.RoleAssignmentCreateParameters),
    "Microsoft.Web/sites": (sites, sites.Site),
    "Microsoft.Web/sites/sitecontainers": (sites, sites.SiteContainer),
    "Microsoft.Web/sites/basicPublishingCredentialsPolicies": (sites, sites.CsmPublishingCredentialsPoliciesEntity),
}
# Of the language, not of a resource.
LANGUAGE = {"name", "parent", "scope", "dependsOn"}
KEYWORDS = {"param", "var", "resource", "output", "existing", "string", "int", "bool", "array", "object", "true", "false", "null", "if", "for", "in"}


def version(namespace: str) -> str:
    """The version of the interface that the models of a namespace describe."""
    if namespace == "Microsoft.Authorization":
        return "2022-04-01"
    module, name = {
        "Microsoft.App": (appcontainers, "ContainerAppsAPIClientConfiguration"),
        "Microsoft.Web": (web, "WebSiteManagementClientConfiguration"),
    }[namespace]
    configuration = getattr(__import__(f"{module.__name__}._configuration", fromlist=[name]), name)
    return configuration(object(), "subscription").api_version


class Bicep:
    """A file, as the parser has it."""

    def __init__(self, path: Path, text: str | None = None):
        self.folder = path.parent
        self.text = path.read_text() if text is None else text
        parsed = BicepParser().parse(text=self.text)
        self.parameters = parsed.get("parameters", {})
        self.variables = {name: one["value"] for name, one in parsed.get("variables", {}).items()}
        self.resources = parsed["resources"]
        self.outputs = parsed.get("outputs", {})

    def made(self) -> dict:
        """The resources that are made, by their symbols; not those that are there already."""
        return {name: one for name, one in self.resources.items() if not one["existing"]}

    def files(self) -> dict[str, Path]:
        """The variables that hold a file, and which."""
        found = {}
        for name, value in self.variables.items():
            function = value.get("function", {}) if isinstance(value, dict) else {}
            if function.get("type") == "load_text_content":
                found[name] = self.folder / function["parameters"]["file_path"]
        return found

    def value(self, value):
        """What a name stands for, where it is a variable's that is more than a text."""
        known = self.variables.get(value) if isinstance(value, str) else None
        return known if isinstance(known, (dict, list)) else value

    def faults(self) -> list[str]:
        """Everything that is not as the models have it, and names that nothing declares."""
        found = [f"nothing declares `{name}`" for name in sorted(self.undeclared())]
        for symbol, resource in self.made().items():
            _, model = MODELS[resource["type"]]
            config = {key: value for key, value in resource["config"].items() if key not in LANGUAGE | {"depends_on"}}
            found += _Check(self).model(model, config, symbol, extra=resource["config"].keys())
        return found

    def undeclared(self) -> set[str]:
        """Names that are used and not declared."""
        loops = re.findall(r"\[for \(?(\w+)(?:, (\w+)\))? in ", self.text)
        declared = {*self.parameters, *self.variables, *self.resources, *self.outputs, *sum(loops, ())}
        return _names(self.text) - declared - KEYWORDS

    def unused(self) -> set[str]:
        """Parameters and variables that nothing uses."""
        uses = _names(self.text, declarations=False)
        return {*self.parameters, *self.variables} - uses


def _names(text: str, declarations: bool = True) -> set[str]:
    """The names in a text: those in `${}` of strings, too, but neither keys nor properties nor functions."""
    text = re.sub(r"(?m)^\s*//.*$", "", text)
    if not declarations:
        text = re.sub(r"(?m)^(param|var|output|resource)\s+\w+", r"\1", text)
    text = re.sub(r"\bin (\w+):", r"in \1 ", text)
    inside = " ".join(re.findall(r"\$\{([^}]*)\}", text))
    outside = re.sub(r"'(?:[^'\\]|\\.)*'", "''", text) + " " + inside
    outside = re.sub(r"(?m)^@.*$", "", outside)
    names = re.finditer(r"(?<![.\w])([A-Za-z_]\w*)(\s*[:(])?", outside)
    return {name for name, follows in (one.groups() for one in names) if not follows or not follows.strip()}


class _Check:
    """Holds values against a model of the SDK."""

    def __init__(self, bicep: Bicep):
        self.bicep = bicep
        self.namespace = None

    def model(self, model, value: dict, where: str, extra=()) -> list[str]:
        """An object against a model, whose keys may lie deeper (`properties.template`)."""
        found = []
        rules = getattr(model, "_validation", {})
        fields = {one["key"]: (name, one["type"]) for name, one in model._attribute_map.items()}
        for key, one in _flat(value, fields):
            if key not in fields:
                found.append(f"{where}: {model.__name__} has no `{key}`")
                continue
            name, kind = fields[key]
            if rules.get(name, {}).get("readonly"):
                found.append(f"{where}: `{key}` cannot be written")
            found += self.typed(model, name, kind, one, f"{where}.{key}")
        written = {key for key, _ in _flat(value, fields)} | set(extra)
        for key, (name, _) in fields.items():
            if rules.get(name, {}).get("required") and key not in written:
                found.append(f"{where}: `{key}` must be written")
        return found

    def typed(self, model, name: str, kind: str, value, where: str) -> list[str]:
        """A value against the type that a model gives it."""
        value = _branches(value)
        if isinstance(value, _Either):
            return [fault for one in value.values for fault in self.typed(model, name, kind, one, where)]
        if kind not in ("str", "int", "bool", "float"):
            value = self.bicep.value(value)
        if _opaque(value, self.bicep):
            return []
        if kind.startswith("["):
            value = [value["config"]] if isinstance(value, dict) and "loop_type" in value else value
            if not isinstance(value, list):
                return [f"{where}: a list belongs here"]
            return [fault for at, one in enumerate(value) for fault in self.typed(model, name, kind[1:-1], one, f"{where}[{at}]")]
        if kind.startswith("{"):
            if not isinstance(value, dict):
                return [f"{where}: an object belongs here"]
            return [fault for key, one in value.items() for fault in self.typed(model, name, kind[1:-1], one, f"{where}.{key}")]
        if kind in ("str", "int", "bool", "float"):
            return self.scalar(model, name, kind, value, where)
        inner = _class(model, kind)
        if inner is None:
            return []
        if not isinstance(value, dict):
            return [f"{where}: an object belongs here"]
        return self.model(inner, value, where)

    def scalar(self, model, name: str, kind: str, value, where: str) -> list[str]:
        """A text, number or truth, and whether a text is among those that are known."""
        expected = {"str": str, "int": int, "bool": bool, "float": (int, float)}[kind]
        if isinstance(value, bool) != (kind == "bool") or not isinstance(value, expected):
            return [] if isinstance(value, str) and value in self.bicep.parameters else [f"{where}: {kind} belongs here, not {value!r}"]
        least, most = _bounds(model, name)
        if kind == "int" and not least <= value <= most:
            return [f"{where}: {value} is not between {least} and {most}"]
        known = _known(model, name)
        if known and value not in known and "${" not in value and value not in {*self.bicep.parameters, *self.bicep.variables}:
            return [f"{where}: {value!r} is none of {sorted(known)}"]
        return []


class _Either:
    def __init__(self, values):
        self.values = values


def _branches(value):
    """Both values of `condition ? a : b`."""
    operator = value.get("operator", {}) if isinstance(value, dict) else {}
    if operator.get("type") == "conditional":
        return _Either([operator["operands"]["true_value"], operator["operands"]["false_value"]])
    return value


def _opaque(value, bicep: Bicep) -> bool:
    """What only the compiler could tell: calls, properties of others, parameters."""
    if isinstance(value, dict):
        return value.keys() in ({"function"}, {"operator"})
    return isinstance(value, str) and bicep.parameters.get(value, {}).get("type") in ("array", "object")


def _flat(value: dict, fields: dict):
    """The keys of an object as a model writes them: with their path where it goes deeper."""
    for key, one in value.items():
        if key in fields or not any(field.startswith(f"{key}.") for field in fields):
            yield key, one
        else:
            yield from ((f"{key}.{inner}", deeper) for inner, deeper in one.items())


def _class(model, name: str):
    """A model by its name; none where it is a plain type."""
    namespace = next(module for module, _ in MODELS.values() if module.__name__.rsplit(".", 1)[0] in model.__module__)
    found = getattr(namespace, name, None)
    return found if hasattr(found, "_attribute_map") else None


def _bounds(model, name: str) -> tuple[float, float]:
    """Between what a number has to lie, as the description of a model says."""
    described = re.search(rf"(?s):ivar {name}: (.*?):vartype {name}:", model.__doc__ or "")
    text = " ".join(described.group(1).split()) if described else ""
    found = {one: int(value) for one, value in re.findall(r"(Minimum|Maximum) value is (\d+)", text)}
    return found.get("Minimum", float("-inf")), found.get("Maximum", float("inf"))


def _known(model, name: str) -> set[str]:
    """The values of an enumeration, which the description of a model names."""
    described = re.search(rf":vartype {name}: str or\s+~[\w.]+\.(\w+)", model.__doc__ or "")
    namespace = next(module for module, _ in MODELS.values() if module.__name__.rsplit(".", 1)[0] in model.__module__)
    values = getattr(namespace, described.group(1), None) if described else None
    return {one.value for one in values} if isinstance(values, type) and issubclass(values, Enum) else set()
