"""Obtains a token with client credentials, as a caller's own service would: by MSAL for Python.

Usage: client.py AUTHORITY CLIENT_ID SCOPE CA_FILE, with the client secret in CLIENT_SECRET.
Prints MSAL's answer as one line of JSON.
"""

import json
import os
import sys

import msal

authority, client_id, scope, ca = sys.argv[1:]
app = msal.ConfidentialClientApplication(
    client_id,
    client_credential=os.environ["CLIENT_SECRET"],
    authority=authority,
    # The authority is on this machine: no directory of Microsoft's knows it.
    instance_discovery=False,
    verify=ca,
)
answer = app.acquire_token_for_client(scopes=[scope])
if "access_token" in answer:
    again = app.acquire_token_for_client(scopes=[scope])
    answer["cached"] = again.get("access_token") == answer["access_token"]
print(json.dumps(answer))
