{{- define "glm5-deployment.name" -}}
{{- default .Release.Name .Values.name -}}
{{- end }}

{{- define "glm5-deployment.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{/* A role's section; where somebody else scales it, the default of replicas is left out. */}}
{{- define "glm5-deployment.role" -}}
{{- if .scaling }}{{ omit . "replicas" | toYaml }}{{ else }}{{ toYaml . }}{{ end -}}
{{- end }}

{{- define "glm5-deployment.tag" -}}
{{- default .Chart.AppVersion .Values.images.tag -}}
{{- end }}
