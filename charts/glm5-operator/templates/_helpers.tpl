{{- define "glm5-operator.name" -}}
{{- ternary .Release.Name (printf "%s-glm5-operator" .Release.Name) (contains "glm5-operator" .Release.Name) | trunc 52 | trimSuffix "-" -}}
{{- end }}

{{- define "glm5-operator.serviceAccount" -}}
{{- default (ternary (include "glm5-operator.name" .) "default" .Values.serviceAccount.create) .Values.serviceAccount.name -}}
{{- end }}

{{/* The NetworkPolicies of deployments know the operator's pods by the first of these. */}}
{{- define "glm5-operator.selector" -}}
app.kubernetes.io/name: glm5-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "glm5-operator.labels" -}}
{{ include "glm5-operator.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}
