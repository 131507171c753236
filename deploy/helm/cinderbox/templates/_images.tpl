{{/* One image: list of the root and a name from `images`. */}}
{{- define "cinderbox.image" -}}
{{- $root := index . 0 -}}
{{- $image := index $root.Values.images (index . 1) -}}
{{- $registry := default $image.registry $root.Values.global.imageRegistry -}}
{{- if $registry }}{{ $registry }}/{{ end }}{{ $image.repository }}
{{- if $image.digest }}@{{ $image.digest }}{{ else }}:{{ default $root.Chart.AppVersion $image.tag }}{{ end }}
{{- end }}

{{/* All images, one a line: what a mirror needs. Shown by NOTES.txt and `helm get notes`. */}}
{{- define "cinderbox.images" -}}
{{- range $name := keys .Values.images | sortAlpha }}
{{- if or (ne $name "snapshotter") $.Values.sidecars.snapshotter.enabled }}
{{ include "cinderbox.image" (list $ $name) }}
{{- end }}
{{- end }}
{{- end }}

{{- define "cinderbox.pullSecrets" -}}
{{- with .Values.global.imagePullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end }}
