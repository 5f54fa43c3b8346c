{{/* The labels of every object. The release's name stands for the program's: two releases are two programs. */}}
{{- define "entrada.labels" -}}
app.kubernetes.io/name: {{ .Release.Name }}
app.kubernetes.io/part-of: entrada
app.kubernetes.io/version: {{ .Chart.AppVersion }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{/* Name, namespace and labels: what every object's metadata begins with. */}}
{{- define "entrada.metadata" -}}
name: {{ .Release.Name }}
namespace: {{ .Release.Namespace }}
labels:
  {{- include "entrada.labels" . | nindent 2 }}
{{- end }}

{{- define "entrada.selector" -}}
app.kubernetes.io/name: {{ .Release.Name }}
{{- end }}

{{/* The host that users type, without a port. */}}
{{- define "entrada.host" -}}
{{ (urlParse .Values.publicUrl).hostname }}
{{- end }}

{{/* That host, and those of mounted dashboards: a list in YAML. */}}
{{- define "entrada.hosts" -}}
{{- $hosts := list (include "entrada.host" .) }}
{{- range .Values.mounts }}{{ $hosts = append $hosts (urlParse (splitn "=" 2 .)._0).hostname }}{{ end }}
{{- toYaml $hosts }}
{{- end }}

{{- define "entrada.image" -}}
{{- with .Values.image -}}
{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end }}
{{- end }}

{{/* "true" where there may be several replicas. */}}
{{- define "entrada.several" -}}
{{- if or .Values.autoscaling.enabled (gt (int .Values.replicas) 1) }}true{{ end }}
{{- end }}

{{/* "true" where the store's Secret is mounted. */}}
{{- define "entrada.storeSecret" -}}
{{- if and (ne .Values.store.url "memory") .Values.store.secretName }}true{{ end }}
{{- end }}

{{/* Seconds for which a pod that leaves serves on as before, until whatever leads to it has noticed. */}}
{{- define "entrada.notice" -}}
{{- $isAgic := and .Values.ingress.enabled (eq .Values.ingress.controller "agic") }}
{{- if kindIs "invalid" .Values.noticeSeconds }}{{ ternary 90 10 $isAgic }}{{ else }}{{ .Values.noticeSeconds }}{{ end }}
{{- end }}

{{/* The settings, name by name: those with a value of their own, then `settings`. */}}
{{- define "entrada.settings" -}}
{{- $own := dict
  "ENTRADA_PUBLIC_URL" .Values.publicUrl
  "ENTRADA_TLS_CERT_FILE" "/etc/entrada/tls/tls.crt"
  "ENTRADA_TLS_KEY_FILE" "/etc/entrada/tls/tls.key"
  "ENTRADA_DRAIN" (printf "%ds" (int .Values.drainSeconds)) }}
{{- with .Values.clusterName }}{{ $_ := set $own "ENTRADA_CLUSTER_NAME" . }}{{ end }}
{{- with .Values.trustedProxies }}{{ $_ := set $own "ENTRADA_TRUSTED_PROXIES" (join "," .) }}{{ end }}
{{- with .Values.mounts }}{{ $_ := set $own "ENTRADA_MOUNTS" (join "," .) }}{{ end }}
{{- with .Values.store }}
  {{- if ne .url "memory" }}
    {{- $_ := set $own "ENTRADA_STORE" .url }}
    {{- with .username }}{{ $_ := set $own "ENTRADA_STORE_USERNAME" . }}{{ end }}
    {{- if eq .auth "entra" }}{{ $_ := set $own "ENTRADA_STORE_AUTH" "entra" }}
    {{- else if .secretName }}{{ $_ := set $own "ENTRADA_STORE_PASSWORD_FILE" "/etc/entrada/store/password" }}{{ end }}
    {{- if and .secretName .caKey }}{{ $_ := set $own "ENTRADA_STORE_CA_FILE" (printf "/etc/entrada/store/%s" .caKey) }}{{ end }}
  {{- end }}
{{- end }}
{{- range $name, $value := .Values.settings }}
  {{- if has $name (list "ENTRADA_PUBLIC_URL" "ENTRADA_TLS_CERT_FILE" "ENTRADA_TLS_KEY_FILE" "ENTRADA_DRAIN" "ENTRADA_CLUSTER_NAME" "ENTRADA_TRUSTED_PROXIES" "ENTRADA_MOUNTS" "ENTRADA_STORE" "ENTRADA_STORE_AUTH" "ENTRADA_STORE_USERNAME" "ENTRADA_STORE_PASSWORD_FILE" "ENTRADA_STORE_CA_FILE") }}
    {{- fail (printf "settings.%s: this setting has a value of its own in values.yaml; set that one" $name) }}
  {{- end }}
  {{- $_ := set $own $name $value }}
{{- end }}
{{- toYaml $own }}
{{- end }}
