"""Prints, as JSON, the facts in manifests/azure/terraform that manifests/azure/setup.sh has to agree with.

  terraform.py FOLDER PUBLIC_URL
"""
import json
import pathlib
import re
import sys

import hcl2

folder, public_url = sys.argv[1:]


def plain(value):
    """What the parser gives, without its marks: quotes around strings, and keys like __is_block__."""
    if isinstance(value, dict):
        return {plain(key): plain(item) for key, item in value.items() if not key.startswith("__")}
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, str):
        return value.removeprefix('"').removesuffix('"')
    return value


resources, variables = {}, {}
for path in sorted(pathlib.Path(folder).glob("*.tf")):
    with open(path, encoding="utf-8") as file:
        parsed = plain(hcl2.load(file))
    for block in parsed.get("resource", []):
        for kind, named in block.items():
            for name, body in named.items():
                resources[kind, name] = body
    for block in parsed.get("variable", []):
        variables.update(block)

values = {name: body.get("default") for name, body in variables.items()} | {"public_url": public_url}


def filled(text):
    return re.sub(r"\$\{var\.(\w+)\}", lambda match: str(values[match[1]]), text)


app = resources["azuread_application", "entrada"]
credential = resources["azuread_application_federated_identity_credential", "pod"]
grants = [resources["azuread_service_principal_delegated_permission_grant", name] for name in ("graph", "aks")]
web, claims = app["web"][0], app["optional_claims"][0]["id_token"]
issuer = credential["issuer"].strip("${}")
print(json.dumps({
    "signInAudience": app["sign_in_audience"],
    "redirectUris": [filled(uri) for uri in web["redirect_uris"]],
    "logoutUrl": filled(web["logout_url"]),
    "idTokenClaims": [claim["name"] for claim in claims],
    "permissions": [{"resourceAppId": access["resource_app_id"], "resourceAccess": access["resource_access"]}
                    for access in app["required_resource_access"]],
    "assignmentRequired": resources["azuread_service_principal", "entrada"]["app_role_assignment_required"],
    "audiences": credential["audiences"],
    "subject": filled(credential["subject"]),
    "issuer": "the cluster's, verbatim" if issuer == "data.azurerm_kubernetes_cluster.this.oidc_issuer_url" else issuer,
    "consents": [grant["claim_values"] for grant in grants],
    "defaultRole": resources["azuread_app_role_assignment", "assigned"]["app_role_id"],
}))
