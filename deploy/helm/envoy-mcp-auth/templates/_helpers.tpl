{{- define "envoy-mcp-auth.chartName" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 50 | trimSuffix "-" }}
{{- end }}

{{/*
`helm upgrade --reuse-values` from an earlier chart brings none of the values that are new since: templates do without them, in
parentheses or with a default.
*/}}

{{/* With room for suffixes. */}}
{{- define "envoy-mcp-auth.name" -}}
{{- $chart := include "envoy-mcp-auth.chartName" . }}
{{- if .Values.fullnameOverride }}{{ .Values.fullnameOverride | trunc 50 | trimSuffix "-" }}
{{- else if contains $chart .Release.Name }}{{ .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else }}{{ printf "%s-%s" .Release.Name $chart | trunc 50 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "envoy-mcp-auth.selector" -}}
app.kubernetes.io/name: {{ include "envoy-mcp-auth.chartName" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "envoy-mcp-auth.labels" -}}
{{- $own := dict "app.kubernetes.io/version" .Chart.AppVersion "app.kubernetes.io/managed-by" .Release.Service "helm.sh/chart" (printf "%s-%s" .Chart.Name .Chart.Version) }}
{{- toYaml (mustMergeOverwrite (dict) (.Values.commonLabels | default dict) $own (include "envoy-mcp-auth.selector" . | fromYaml)) }}
{{- end }}

{{/* The `annotations:` of an object: commonAnnotations and its own. Call with (list $ OWN INDENT); renders nothing, or a line break first. */}}
{{- define "envoy-mcp-auth.annotations" -}}
{{- $all := mustMergeOverwrite (dict) ((index . 0).Values.commonAnnotations | default dict) (index . 1 | default dict) }}
{{- if $all }}
{{- dict "annotations" $all | toYaml | nindent (index . 2) }}
{{- end }}
{{- end }}

{{/* The reference of an image. Call with (list $ IMAGE DEFAULT-TAG). */}}
{{- define "envoy-mcp-auth.image" -}}
{{- $image := index . 1 }}
{{- $registry := $image.registry | default ((index . 0).Values.global).imageRegistry }}
{{- $name := ternary (printf "%s/%s" $registry $image.repository) $image.repository (not (empty $registry)) }}
{{- $tag := $image.tag | default (ternary "" (index . 2) (not (empty $image.digest))) }}
{{- $name }}{{ with $tag }}:{{ . }}{{ end }}{{ with $image.digest }}@{{ . }}{{ end }}
{{- end }}

{{- define "envoy-mcp-auth.ownImage" -}}
{{- include "envoy-mcp-auth.image" (list . .Values.image .Chart.AppVersion) }}
{{- end }}

{{/* The number of pods. `replicas` is the name of earlier charts. */}}
{{- define "envoy-mcp-auth.replicas" -}}
{{- .Values.replicas | default .Values.replicaCount | default 2 }}
{{- end }}

{{- define "envoy-mcp-auth.serviceAccount" -}}
{{- $given := .Values.serviceAccount | default dict }}
{{- $given.name | default (ternary "default" (include "envoy-mcp-auth.name" .) (eq (toString $given.create) "false")) }}
{{- end }}

{{/* The routes file: what is given, with the addresses that fit the mode. */}}
{{- define "envoy-mcp-auth.routes" -}}
{{- $config := deepCopy .Values.config }}
{{- if eq .Values.mode "sidecar" }}
{{- $listen := dict "grpc" "unix:/run/envoy-mcp-auth/grpc.sock" "http" "unix:/run/envoy-mcp-auth/http.sock" "admin" "0.0.0.0:9090" }}
{{- $envoy := dict "listen" "0.0.0.0:8443" "tls" (dict "certificate" "/etc/envoy/tls/tls.crt" "key" "/etc/envoy/tls/tls.key") }}
{{- /* Three quarters of envoy.resources.limits.memory, unless the routes file says otherwise. */}}
{{- $config = mustMergeOverwrite (dict "envoy" (dict "max_heap_bytes" "384MiB")) $config (dict "listen" $listen "envoy" $envoy) }}
{{- else }}
{{- $listen := dict "grpc" "0.0.0.0:50051" "http" "0.0.0.0:8080" "admin" "0.0.0.0:9090" "envoy_secret" (((.Values.config).listen).envoy_secret | default (list "${ENVOY_SECRET}")) }}
{{- if (.Values.grpcTls).secret }}
{{- $folder := "/etc/envoy-mcp-auth-grpc" }}
{{- $tls := dict "certificate" (printf "%s/tls.crt" $folder) "key" (printf "%s/tls.key" $folder) "client_ca" (printf "%s/ca.crt" $folder) }}
{{- with .Values.grpcTls.clientNames }}{{ $_ := set $tls "client_names" . }}{{ end }}
{{- $_ := set $listen "grpc_tls" $tls }}
{{- end }}
{{- $config = mustMergeOverwrite $config (dict "listen" $listen) }}
{{- end }}
{{- toYaml $config }}
{{- end }}

{{- define "envoy-mcp-auth.configMap" -}}
{{- .Values.existingConfigMap | default (include "envoy-mcp-auth.name" .) }}
{{- end }}

{{/* What a change of the routes file replaces pods for: the sections that the sidecar, and Envoy's bootstrap, read at startup only. */}}
{{- define "envoy-mcp-auth.checksum" -}}
{{- $config := include "envoy-mcp-auth.routes" . | fromYaml }}
{{- if ne (.Values.rolloutOnConfigChange | default "startup") "always" }}
{{- $envoy := pick ($config.envoy | default dict) "admin" "max_heap_bytes" "max_connections" "tracing" }}
{{- $config = pick $config "listen" "workers" "paths" "database" "encryption" "audit" "log" "limits" }}
{{- if eq .Values.mode "sidecar" }}{{ $_ := set $config "envoy" $envoy }}{{ end }}
{{- end }}
{{- toJson $config | sha256sum }}
{{- end }}

{{/* The environment of the program. */}}
{{- define "envoy-mcp-auth.env" -}}
- name: DATABASE_URL
  valueFrom: { secretKeyRef: { name: {{ .Values.database.secret }}, key: {{ .Values.database.key }} } }
{{- if .Values.encryptionKey.secret }}
- name: ENCRYPTION_KEY
  valueFrom: { secretKeyRef: { name: {{ .Values.encryptionKey.secret }}, key: {{ .Values.encryptionKey.key }} } }
{{- end }}
{{- if eq .Values.mode "deployment" }}
- name: ENVOY_SECRET
  valueFrom: { secretKeyRef: { name: {{ (.Values.envoySecret).secret | default "envoy-mcp-auth" }}, key: {{ (.Values.envoySecret).key | default "credential" }} } }
{{- end }}
{{- range .Values.env }}
- name: {{ .name }}
  valueFrom: { secretKeyRef: { name: {{ .secret }}, key: {{ .key }} } }
{{- end }}
{{- with .Values.otlpEndpoint }}
- name: OTEL_EXPORTER_OTLP_ENDPOINT
  value: {{ . | quote }}
{{- end }}
{{- range $name, $value := dict "HTTPS_PROXY" (.Values.proxy).httpsProxy "HTTP_PROXY" (.Values.proxy).httpProxy "NO_PROXY" (.Values.proxy).noProxy }}
{{- with $value }}
- name: {{ $name }}
  value: {{ . | quote }}
{{- end }}
{{- end }}
{{- if include "envoy-mcp-auth.privateCa" . }}
- name: NODE_EXTRA_CA_CERTS
  value: /etc/envoy-mcp-auth-ca/ca.crt
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* The source of the volume with private CAs; empty if there are none. */}}
{{- define "envoy-mcp-auth.privateCa" -}}
{{- $given := .Values.privateCa | default dict }}
{{- $items := list (dict "key" ($given.key | default "ca.crt") "path" "ca.crt") }}
{{- if $given.configMap }}{{ toYaml (dict "configMap" (dict "name" $given.configMap "items" $items)) }}
{{- else if $given.secret }}{{ toYaml (dict "secret" (dict "secretName" $given.secret "items" $items)) }}
{{- end }}
{{- end }}

{{/* Volume mounts of the program. */}}
{{- define "envoy-mcp-auth.mounts" -}}
- { name: config, mountPath: /etc/envoy-mcp-auth, readOnly: true }
{{- if and (eq .Values.mode "deployment") (.Values.grpcTls).secret }}
- { name: grpc-tls, mountPath: /etc/envoy-mcp-auth-grpc, readOnly: true }
{{- end }}
{{- if include "envoy-mcp-auth.privateCa" . }}
- { name: private-ca, mountPath: /etc/envoy-mcp-auth-ca, readOnly: true }
{{- end }}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "envoy-mcp-auth.podSecurity" -}}
{{- toYaml (.Values.podSecurityContext | default (dict "runAsNonRoot" true "runAsUser" 65532 "runAsGroup" 65532 "fsGroup" 65532 "seccompProfile" (dict "type" "RuntimeDefault"))) }}
{{- end }}

{{/* A container's security context, restricted if none is given. */}}
{{- define "envoy-mcp-auth.secure" -}}
{{- toYaml (. | default (dict "allowPrivilegeEscalation" false "readOnlyRootFilesystem" true "capabilities" (dict "drop" (list "ALL")))) }}
{{- end }}

{{/*
The public Service of sidecar mode. Earlier charts gave it the name of the other objects: one that exists keeps it, and its address.
Where the current chart has created one, the other is not public because of this mode.
*/}}
{{- define "envoy-mcp-auth.gatewayService" -}}
{{- $name := include "envoy-mcp-auth.name" . }}
{{- $own := printf "%s-gateway" $name }}
{{- $old := lookup "v1" "Service" .Release.Namespace $name }}
{{- $public := false }}
{{- range (($old.spec).ports) }}{{ if and (eq .name "https") (ne $old.spec.type "ClusterIP") }}{{ $public = true }}{{ end }}{{ end }}
{{- if lookup "v1" "Service" .Release.Namespace $own }}{{ $public = false }}{{ end }}
{{- .Values.envoy.service.name | default (ternary $name $own $public) }}
{{- end }}

{{/* `minAvailable` or `maxUnavailable`: never a budget that blocks every eviction, and so every drain of a node. */}}
{{- define "envoy-mcp-auth.disruptions" -}}
{{- $budget := .Values.podDisruptionBudget }}
{{- $least := int (ternary .Values.autoscaling.minReplicas (include "envoy-mcp-auth.replicas" .) .Values.autoscaling.enabled) }}
{{- $given := toString $budget.minAvailable }}
{{- $stay := int $given }}
{{- if hasSuffix "%" $given }}{{ $stay = divf (mul (int (trimSuffix "%" $given)) $least) 100 | ceil | int }}{{ end }}
{{- if and $budget.minAvailable (lt $stay $least) }}minAvailable: {{ $budget.minAvailable }}
{{- else }}maxUnavailable: {{ $budget.maxUnavailable | default 1 }}
{{- end }}
{{- end }}

{{- /* Whether the routes file sets TLS on the private port: "true" or nothing. */}}
{{- define "envoy-mcp-auth.privateTls" -}}
{{- if (((.Values).config).listen).admin_tls }}true{{ end }}
{{- end }}

{{- /* A probe (list of root and probe): over https if it is of the private port, which has TLS. A scheme of its own wins. */}}
{{- define "envoy-mcp-auth.probe" -}}
{{- $probe := deepCopy (index . 1) }}
{{- $private := has (toString ($probe.httpGet).port) (list "private" "9090") }}
{{- if and (include "envoy-mcp-auth.privateTls" (index . 0)) $private }}
{{- $_ := set $probe "httpGet" (merge $probe.httpGet (dict "scheme" "HTTPS")) }}
{{- end }}
{{- toYaml $probe }}
{{- end }}
