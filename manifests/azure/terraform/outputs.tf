output "client_id" {
  description = "AZURE_CLIENT_ID: the service account's annotation, or entra.clientId of the chart."
  value       = azuread_application.entrada.client_id
}

output "tenant_id" {
  description = "AZURE_TENANT_ID, or entra.tenantId of the chart."
  value       = var.tenant_id
}

output "public_url" {
  description = "ENTRADA_PUBLIC_URL, or publicUrl of the chart."
  value       = var.public_url
}

output "issuer" {
  description = "Whose tokens of the service account Entra takes."
  value       = data.azurerm_kubernetes_cluster.this.oidc_issuer_url
}

output "consent_url" {
  description = "For an administrator to open, where consent = false."
  value       = "https://login.microsoftonline.com/${var.tenant_id}/adminconsent?client_id=${azuread_application.entrada.client_id}"
}
