{{/*
What the Deployment's pods and the test's pod have in common: who they are, what they may do, what they can read.
*/}}
{{- define "entrada.pod" -}}
serviceAccountName: {{ .Release.Name }}
# Said here too, since the pod's word counts more than its account's.
automountServiceAccountToken: false
# Otherwise the Service of this name would add ENTRADA_PORT and the like to our environment, beside our settings.
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  # Lets the process read the TLS key, which nobody else may.
  fsGroup: 65532
  seccompProfile:
    type: RuntimeDefault
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . | quote }}
  {{- end }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
volumes:
  # Where the API token usually lies, only its neighbour: the CA that the API server's certificate is from.
  - name: api-server-ca
    projected:
      sources:
        - configMap:
            name: kube-root-ca.crt
            items:
              - key: ca.crt
                path: ca.crt
  - name: tls
    secret:
      secretName: {{ .Values.tls.secretName | quote }}
      defaultMode: 0440
  {{- if include "entrada.storeSecret" . }}
  - name: store
    secret:
      secretName: {{ .Values.store.secretName | quote }}
      defaultMode: 0440
  {{- end }}
  {{- with .Values.volumes }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}

{{- define "entrada.container" -}}
name: entrada
image: {{ include "entrada.image" . | quote }}
{{- with .Values.image.pullPolicy }}
imagePullPolicy: {{ . }}
{{- end }}
# Here, and in no ConfigMap: a pod goes on with the settings that it began with, also when its container starts anew, and
# `kubectl rollout undo` brings them back.
env:
  {{- range $name, $value := include "entrada.settings" . | fromYaml }}
  - name: {{ $name }}
    value: {{ $value | replace "$(" "$$(" | quote }}
  {{- end }}
  {{- with .Values.env }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: ["ALL"]
resources:
  {{- toYaml .Values.resources | nindent 2 }}
volumeMounts:
  - name: api-server-ca
    mountPath: /var/run/secrets/kubernetes.io/serviceaccount
    readOnly: true
  - name: tls
    mountPath: /etc/entrada/tls
    readOnly: true
  {{- if include "entrada.storeSecret" . }}
  - name: store
    mountPath: /etc/entrada/store
    readOnly: true
  {{- end }}
  {{- with .Values.volumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}
