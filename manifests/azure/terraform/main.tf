data "azurerm_kubernetes_cluster" "this" {
  name                = var.cluster
  resource_group_name = var.resource_group
}

# Of Microsoft, the same in every tenant. `use_existing` takes over what the tenant has, and destroy leaves it there.
resource "azuread_service_principal" "aks_server" {
  client_id    = "6dae42f8-4368-4678-94ff-3960e28e3630"
  use_existing = true
}

resource "azuread_service_principal" "graph" {
  client_id    = "00000003-0000-0000-c000-000000000000"
  use_existing = true
}

# The application that people sign in to. It has no secret.
resource "azuread_application" "entrada" {
  display_name     = var.name
  sign_in_audience = "AzureADMyOrg"

  web {
    redirect_uris = ["${var.public_url}/callback"]
    logout_url    = "${var.public_url}/logout/frontchannel"
  }

  optional_claims {
    id_token {
      name = "login_hint"
    }
    id_token {
      name = "sid"
    }
  }

  # user.read
  required_resource_access {
    resource_app_id = "6dae42f8-4368-4678-94ff-3960e28e3630"
    resource_access {
      id   = "34a47c2f-cd0d-47b4-a93c-2c41130c671c"
      type = "Scope"
    }
  }

  # openid, profile, offline_access
  required_resource_access {
    resource_app_id = "00000003-0000-0000-c000-000000000000"
    resource_access {
      id   = "37f7f235-527c-4136-accd-4a02d197296e"
      type = "Scope"
    }
    resource_access {
      id   = "14dad69e-099b-42c9-810b-d002981feec1"
      type = "Scope"
    }
    resource_access {
      id   = "7427e0e9-2fba-42fe-b0c0-848c9e6a8182"
      type = "Scope"
    }
  }
}

resource "azuread_service_principal" "entrada" {
  client_id                    = azuread_application.entrada.client_id
  app_role_assignment_required = true

  feature_tags {
    enterprise = true
  }
}

# The pod proves to be the application by the token of its service account. The issuer is taken verbatim, with the slash
# at its end.
resource "azuread_application_federated_identity_credential" "pod" {
  application_id = azuread_application.entrada.id
  display_name   = "entrada-${var.cluster}"
  issuer         = data.azurerm_kubernetes_cluster.this.oidc_issuer_url
  subject        = "system:serviceaccount:${var.namespace}:${var.service_account}"
  audiences      = ["api://AzureADTokenExchange"]
}

resource "azuread_service_principal_delegated_permission_grant" "graph" {
  count                                = var.consent ? 1 : 0
  service_principal_object_id          = azuread_service_principal.entrada.object_id
  resource_service_principal_object_id = azuread_service_principal.graph.object_id
  claim_values                         = ["openid", "profile", "offline_access"]
}

resource "azuread_service_principal_delegated_permission_grant" "aks" {
  count                                = var.consent ? 1 : 0
  service_principal_object_id          = azuread_service_principal.entrada.object_id
  resource_service_principal_object_id = azuread_service_principal.aks_server.object_id
  claim_values                         = ["user.read"]
}

resource "azuread_app_role_assignment" "assigned" {
  for_each            = var.assigned
  app_role_id         = "00000000-0000-0000-0000-000000000000"
  principal_object_id = each.value
  resource_object_id  = azuread_service_principal.entrada.object_id
}

resource "azurerm_managed_redis_access_policy_assignment" "entrada" {
  count            = var.redis_id == null ? 0 : 1
  managed_redis_id = var.redis_id
  object_id        = azuread_service_principal.entrada.object_id
}
