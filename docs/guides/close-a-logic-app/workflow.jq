# What is changed of a Logic App (Consumption) as Azure Resource Manager tells it, for writing it back whole.

# What may be written of it. Values of secure parameters are not told, so a workflow that has some is better changed
# where it is made.
def writable:
  {location, tags, identity, properties: (.properties | {state, definition, parameters, integrationAccount, accessControl})}
  | .properties |= with_entries(select(.value != null))
  | with_entries(select(.value != null));

# Tokens of the gateway's identity start the workflow, too. Links go on doing so.
def let_in($tenant; $gateway):
  writable
  | .properties.accessControl.triggers.openAuthenticationPolicies.policies.portcullis = {
      type: "AAD",
      claims: [
        {name: "iss", value: "https://sts.windows.net/\($tenant)/"},
        {name: "aud", value: "api://\($tenant)/contoso-workflows"},
        {name: "appid", value: $gateway}
      ]
    };

# Links start it no more, and nobody from elsewhere does.
def close($addresses):
  writable
  | .properties.accessControl.triggers.sasAuthenticationPolicy = {state: "Disabled"}
  # An empty list would let in other Logic Apps alone, and keep the gateway out; so without addresses it stays as it is.
  | if $addresses == [] then . else
      .properties.accessControl.triggers.allowedCallerIpAddresses = [$addresses[] | {addressRange: "\(.)/32"}]
    end;

# The last resort: links start it again, from anywhere. Whoever had a list of addresses before puts it back by hand.
def reopen:
  writable
  | .properties.accessControl.triggers.sasAuthenticationPolicy = {state: "Enabled"}
  | del(.properties.accessControl.triggers.allowedCallerIpAddresses);
