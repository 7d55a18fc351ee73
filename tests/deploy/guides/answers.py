"""What stands in for the commands that need Azure, a cluster or another machine: it writes down how it was called, and
says what the first pattern that fits stands for."""

import json
import os
import re
import sys
from pathlib import Path

HERE = Path(__file__).parent
FLOW = "/subscriptions/s/resourceGroups/invitations/providers/Microsoft.Logic/workflows/invite-flow"
LINK = (
    "https://prod-12.westeurope.logic.azure.com:443/workflows/0123456789abcdef0123456789abcdef/triggers/manual/paths/invoke"
    "?api-version=2016-10-01&sp=%2Ftriggers%2Fmanual%2Frun&sv=1.0&sig=c2lnbmF0dXJl"
)


TENANT = "11111111-2222-3333-4444-555555555555"
PORTAL = "aaaaaaaa-0000-0000-0000-000000000001"


def decision(time: str, path: str, route: str, **more) -> str:
    common = {"v": 1, "time": time, "id": "0190b0a4-7c3e-4d5f-8a6b-2f1e3d4c5b6a", "client": "203.0.113.9", "method": "POST"}
    common |= {"host": "gate", "path": path, "protocol": "HTTP/1.1", "decision": "allow", "route": route, "policy": "x", "trust": "x"}
    return json.dumps(common | more)


# As Log Analytics gives them: lines of the request log and of libraries lie between decisions.
LINES = [
    json.dumps({"time": "2027-01-15T08:00:00.000Z", "method": "POST", "status": 202}),
    decision(
        "2027-01-15T08:00:00.000Z",
        "/workflows/0123456789abcdef0123456789abcdef/triggers/manual/paths/invoke",
        "old-links",
        authentication="token-missing",
        reason="report-only",
        reportOnly={"decision": "deny", "reason": "token-missing", "rule": "allow[0]"},
        sas={"keys": ["sig"], "agent": "axios/1.6.0", "refused": False},
    ),
    "not JSON",
    decision(
        "2027-01-15T09:00:00.000Z",
        "/invitations",
        "invite-guest",
        reason="rule",
        rule="allow[0]",
        token={
            "tenant": TENANT,
            "version": "2.0",
            "app": PORTAL,
            "kind": "appOnly",
            "strength": "secret",
            "audience": f"api://{TENANT}/contoso-gateway",
            "roles": ["Guests.Invite"],
            "scopes": [],
            "groupOverage": False,
        },
    ),
]

ANSWERS = [
    (r"az account show .*tenantId", TENANT),
    (r"az resource show", FLOW),
    (r"az identity show .*clientId", "cccccccc-1111-2222-3333-444444444444"),
    (r"az identity show .*principalId", "dddddddd-1111-2222-3333-444444444444"),
    (r"listCallbackUrl", LINK),
    (r"az rest --method get .*workflows", (HERE / "workflow.json").read_text()),
    (r"az rest --method post .*loganalytics", json.dumps({"tables": [{"rows": [[line] for line in LINES]}]})),
    (r"az containerapp show .*outboundIpAddresses", json.dumps(["192.0.2.1", "192.0.2.2"])),
    (r"az deployment group show", "portcullis.gate.westeurope.azurecontainerapps.io"),
    (r"az containerapp env show", "99999999-1111-2222-3333-444444444444"),
    (r"az ad (app|sp|signed-in-user) (create|show)", "eeeeeeee-1111-2222-3333-444444444444"),
    (r"az aks show", "https://westeurope.oic.prod-aks.azure.com/t/i/"),
    (r"az (acr|keyvault) show", "/subscriptions/s/resourceGroups/g/providers/p/n"),
    (r"curl .*oauth2", json.dumps({"access_token": "e30.e30.e30"})),
    (r"curl .*-si", "HTTP/1.1 202 Accepted"),
    (r"curl ", json.dumps({"reason": "token-missing", "error": {"code": "DirectApiInvalidAuthorizationScheme"}})),
]


def main():
    called = sys.argv[1:]
    with open(os.environ["CALLED"], "a") as log:
        log.write(json.dumps(called) + "\n")
    line = " ".join(called)
    for pattern, answer in ANSWERS:
        if re.search(pattern, line):
            print(answer)
            return


main()
