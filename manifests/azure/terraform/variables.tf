variable "public_url" {
  description = "What users type, without a path and without a slash at its end: https://k8s.example.com"
  type        = string

  validation {
    condition     = can(regex("^https://[a-z0-9.-]+(:[0-9]+)?$", var.public_url)) && !endswith(var.public_url, ":443")
    error_message = "https:// and a host in small letters, without a path and without :443: https://k8s.example.com"
  }
}

variable "tenant_id" {
  description = "The tenant of the cluster's users."
  type        = string
}

variable "subscription_id" {
  description = "The subscription of the cluster."
  type        = string
}

variable "resource_group" {
  description = "The resource group of the AKS cluster."
  type        = string
}

variable "cluster" {
  description = "The AKS cluster. Its OIDC issuer and workload identity must be enabled already."
  type        = string
}

variable "namespace" {
  description = "Entrada's namespace in the cluster."
  type        = string
  default     = "entrada"
}

variable "service_account" {
  description = "Entrada's service account; with Helm, the name of the release."
  type        = string
  default     = "entrada"
}

variable "name" {
  description = "Display name of the application."
  type        = string
  default     = "entrada"
}

variable "consent" {
  description = "Consent for everybody. Set to false where whoever applies this may not; consent_url then helps."
  type        = bool
  default     = true
}

variable "assigned" {
  description = "Object ids of the users and groups that may sign in."
  type        = set(string)
  default     = []
}

variable "redis_id" {
  description = "Resource id of an Azure Managed Redis that Entrada may use, or null."
  type        = string
  default     = null
}
