{{- define "cinderbox.name" -}}
{{ default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" }}
{{- end }}

{{- define "cinderbox.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{ .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- else if contains (include "cinderbox.name" .) .Release.Name -}}
{{ .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else -}}
{{ printf "%s-%s" .Release.Name (include "cinderbox.name" .) | trunc 40 | trimSuffix "-" }}
{{- end -}}
{{- end }}

{{/* Names of cluster-wide objects: several releases, of the same name in different namespaces too, keep apart. */}}
{{- define "cinderbox.clusterName" -}}
{{ include "cinderbox.fullname" . }}-{{ .Release.Namespace }}
{{- end }}

{{- define "cinderbox.controllerAccount" -}}
{{ default (printf "%s-controller" (include "cinderbox.fullname" .)) .Values.controller.serviceAccount.name }}
{{- end }}

{{- define "cinderbox.nodeAccount" -}}
{{ default (printf "%s-node" (include "cinderbox.fullname" .)) .Values.node.serviceAccount.name }}
{{- end }}

{{/* How the API server names the service accounts. */}}
{{- define "cinderbox.controllerUser" -}}
system:serviceaccount:{{ .Release.Namespace }}:{{ include "cinderbox.controllerAccount" . }}
{{- end }}

{{- define "cinderbox.nodeUser" -}}
system:serviceaccount:{{ .Release.Namespace }}:{{ include "cinderbox.nodeAccount" . }}
{{- end }}

{{- define "cinderbox.labels" -}}
app.kubernetes.io/name: {{ include "cinderbox.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{/* Of one component: list of the root and "controller" or "node". */}}
{{- define "cinderbox.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ include "cinderbox.name" $root }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{- define "cinderbox.settingsSecret" -}}
{{ default (printf "%s-settings" (include "cinderbox.fullname" .)) .Values.existingSettingsSecret }}
{{- end }}

{{- define "cinderbox.sealingSecret" -}}
{{ default (printf "%s-sealing" (include "cinderbox.fullname" .)) .Values.sealing.existingSecret }}
{{- end }}

{{- define "cinderbox.replicas" -}}
{{- if kindIs "invalid" .Values.controller.replicas -}}
{{ eq .Values.controller.profile "host" | ternary 1 2 }}
{{- else -}}
{{ int .Values.controller.replicas }}
{{- end -}}
{{- end }}

{{/* Name of the Secret with a backend's secret options; empty for one without. Takes the root and the backend. */}}
{{- define "cinderbox.backendSecret" -}}
{{- $root := index . 0 -}}
{{- $backend := index . 1 -}}
{{- if $backend.secretOptions -}}
{{- printf "%s-backend-%s" (include "cinderbox.fullname" $root) $backend.name -}}
{{- else -}}
{{- ($backend.secretRef | default dict).name | default "" -}}
{{- end -}}
{{- end }}
