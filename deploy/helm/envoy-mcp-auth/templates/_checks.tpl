{{/* Fails, with everything that is missing at once. */}}
{{- define "envoy-mcp-auth.checks" -}}
{{- $problems := list }}
{{- if not .Values.image.repository }}
{{- $problems = append $problems "image.repository is empty: build the image (docker build -t REGISTRY/envoy-mcp-auth:TAG .), push it, and set image.repository to REGISTRY/envoy-mcp-auth and image.tag to TAG; there is no public image" }}
{{- end }}
{{- if not (or .Values.config .Values.existingConfigMap) }}
{{- $problems = append $problems "config is empty: write the routes file under `config` (the chart's examples/ have some), or name a ConfigMap with the key routes.yaml in existingConfigMap" }}
{{- end }}
{{- if and .Values.config .Values.existingConfigMap }}
{{- $problems = append $problems "config and existingConfigMap are both set: remove one of them" }}
{{- end }}
{{- if and .Values.networkPolicy.enabled (eq .Values.mode "deployment") (not .Values.networkPolicy.envoy) }}
{{- $problems = append $problems "networkPolicy.envoy is empty: name the pods of your Envoy, the only ones that may reach gRPC and HTTP (values.yaml), or set networkPolicy.enabled: false" }}
{{- end }}
{{- if and (.Values.privateCa).configMap (.Values.privateCa).secret }}
{{- $problems = append $problems "privateCa.configMap and privateCa.secret are both set: remove one of them" }}
{{- end }}
{{- if and (.Values.grpcTls).secret (eq .Values.mode "sidecar") }}
{{- $problems = append $problems "grpcTls.secret is set, but in sidecar mode gRPC is a Unix socket inside the pod: remove it" }}
{{- end }}
{{- if and .Values.existingConfigMap (.Values.grpcTls).secret }}
{{- $problems = append $problems "grpcTls.secret has no effect on existingConfigMap: mount the Secret with extraVolumes and set listen.grpc_tls in the ConfigMap" }}
{{- end }}
{{- if and (eq .Values.mode "deployment") (not (dig "aggregation" "through" "" (.Values.config | default dict))) }}
{{- range (.Values.config | default dict).routes }}
{{- if (.mcp | default dict).aggregate }}
{{- $problems = append $problems (printf "config.aggregation.through is not set: the pods reach the members of the aggregated route %s through Envoy (write the https URL of its Service, and the CA of its certificate in config.aggregation.ca)" (.id | default .from)) }}
{{- end }}
{{- end }}
{{- end }}
{{- $workers := (.Values.config | default dict).workers | default 1 | toString }}
{{- if and (eq .Values.mode "deployment") (ne $workers "1") }}
{{- $problems = append $problems (printf "config.workers is %s, but in deployment mode your Envoy calls one port of each pod, and would reach the first worker only: remove it, and raise replicaCount" $workers) }}
{{- end }}
{{- if $problems }}{{ fail (printf "\n- %s" (join "\n- " $problems)) }}{{ end }}
{{- end }}
