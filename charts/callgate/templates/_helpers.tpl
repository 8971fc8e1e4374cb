{{/* Labels of every object. With a component for what is one's own, and labels of the user's, which change none of these:
(list $ "agent" .Values.agent.podLabels). */}}
{{- define "callgate.labels" -}}
{{- $labels := dict "app.kubernetes.io/name" "callgate" "app.kubernetes.io/version" (index . 0).Chart.AppVersion }}
{{- with index . 1 }}
{{- $_ := set $labels "app.kubernetes.io/component" . }}
{{- end }}
{{- if gt (len .) 2 }}
{{- $labels = merge $labels (index . 2 | default dict) }}
{{- end }}
{{- toYaml $labels }}
{{- end }}

{{/* By these the controller finds the agents' pods, so they are fixed. */}}
{{- define "callgate.selector" -}}
app.kubernetes.io/name: callgate
app.kubernetes.io/component: {{ . }}
{{- end }}

{{- define "callgate.image" -}}
{{- with .Values.image -}}
{{ .repository }}{{ if .digest }}{{ with .tag }}:{{ . }}{{ end }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end }}
{{- end }}

{{/* What both programs are told. */}}
{{- define "callgate.environment" -}}
- name: CALLGATE_LOG_FORMAT
  value: {{ .Values.logFormat }}
{{- with .Values.listenerPrefixes }}
- name: CALLGATE_LISTENER_PREFIXES
  value: {{ join "," . | quote }}
{{- end }}
{{- end }}

{{/* A port on all addresses, and its probes. */}}
{{- define "callgate.probes" -}}
livenessProbe:
  httpGet:
    path: /livez
    port: http
  periodSeconds: 10
  timeoutSeconds: 5
readinessProbe:
  httpGet:
    path: /readyz
    port: http
  periodSeconds: 5
  timeoutSeconds: 5
{{- end }}

{{/* The namespaces of shared profiles, as a list in JSON. */}}
{{- define "callgate.sharedNamespaces" -}}
{{- $namespaces := list }}
{{- range .Values.policies.ownNamespace.sharedProfiles }}
{{- $namespaces = append $namespaces (splitList "/" . | first) }}
{{- end }}
{{- $namespaces | uniq | sortAlpha | toJson }}
{{- end }}
