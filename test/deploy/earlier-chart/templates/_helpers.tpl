{{- define "envoy-mcp-auth.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 50 | trimSuffix "-" }}{{ else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "envoy-mcp-auth.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "envoy-mcp-auth.labels" -}}
{{ include "envoy-mcp-auth.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{/* The routes file: what is given, with the addresses that fit the mode. */}}
{{- define "envoy-mcp-auth.routes" -}}
{{- $config := deepCopy .Values.config }}
{{- if eq .Values.mode "sidecar" }}
{{- $listen := dict "grpc" "unix:/run/envoy-mcp-auth/grpc.sock" "http" "127.0.0.1:8080" "admin" "0.0.0.0:9090" }}
{{- $envoy := dict "listen" "0.0.0.0:8443" "tls" (dict "certificate" "/etc/envoy/tls/tls.crt" "key" "/etc/envoy/tls/tls.key") }}
{{- $config = mustMergeOverwrite $config (dict "listen" $listen "envoy" $envoy) }}
{{- else }}
{{- $config = mustMergeOverwrite $config (dict "listen" (dict "grpc" "0.0.0.0:50051" "http" "0.0.0.0:8080" "admin" "0.0.0.0:9090")) }}
{{- end }}
{{- toYaml $config }}
{{- end }}

{{- define "envoy-mcp-auth.configMap" -}}
{{- .Values.existingConfigMap | default (include "envoy-mcp-auth.name" .) }}
{{- end }}

{{- define "envoy-mcp-auth.secure" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: { drop: [ALL] }
{{- end }}
