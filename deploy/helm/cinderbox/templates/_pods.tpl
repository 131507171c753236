{{/* Pod anti-affinity of the controller's replicas, or the affinity that was given. */}}
{{- define "cinderbox.controllerAffinity" -}}
{{- if .Values.controller.affinity -}}
affinity: {{- toYaml .Values.controller.affinity | nindent 2 }}
{{- else if eq .Values.controller.antiAffinity "required" -}}
affinity:
  podAntiAffinity:
    requiredDuringSchedulingIgnoredDuringExecution:
      - topologyKey: kubernetes.io/hostname
        labelSelector:
          matchLabels: {{- include "cinderbox.selector" (list . "controller") | nindent 12 }}
{{- else if eq .Values.controller.antiAffinity "preferred" -}}
affinity:
  podAntiAffinity:
    preferredDuringSchedulingIgnoredDuringExecution:
      - weight: 100
        podAffinityTerm:
          topologyKey: kubernetes.io/hostname
          labelSelector:
            matchLabels: {{- include "cinderbox.selector" (list . "controller") | nindent 14 }}
{{- end -}}
{{- end }}

{{/* What Pod Security's level "restricted" asks of a container, and a root filesystem that can't be written. */}}
{{- define "cinderbox.unprivileged" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{/* Probes of a process that serves HTTP, given the path that says whether it is ready. */}}
{{- define "cinderbox.probes" -}}
# The others begin when it has succeeded: a host that starts all its pods at once may need half a minute for this one.
startupProbe:
  httpGet: {path: /healthz, port: http}
  periodSeconds: 1
  timeoutSeconds: 5
  failureThreshold: 120
livenessProbe:
  httpGet: {path: /healthz, port: http}
  periodSeconds: 5
  timeoutSeconds: 5
  failureThreshold: 3
  # What has not answered for that long does not end in order either.
  terminationGracePeriodSeconds: 3
readinessProbe:
  httpGet: {path: {{ . }}, port: http}
  periodSeconds: 5
  timeoutSeconds: 5
{{- end }}

{{/* The port at which HTTP is served: list of the root and "controller" or "node". Nodes', and that of a controller in the
host profile, are their host's, where another release may run: its driver's name makes it another one. */}}
{{- define "cinderbox.httpPort" -}}
{{- $root := index . 0 -}}
{{- $component := index . 1 -}}
{{- $isNode := eq $component "node" | ternary 1 0 -}}
{{- if (index $root.Values $component).http.port -}}
{{- int (index $root.Values $component).http.port -}}
{{- else if eq $root.Values.driverName "csi.cinderbox.io" -}}
{{- add 9808 $isNode -}}
{{- else -}}
{{- add 20000 (mul 2 (mod (adler32sum $root.Values.driverName | int64) 4000)) $isNode -}}
{{- end -}}
{{- end }}

{{/* Where HTTP is served, of a list of the root and the component: an IPv6 address is in brackets. */}}
{{- define "cinderbox.hostPort" -}}
{{- $address := (index (index . 0).Values (index . 1)).http.address | trimPrefix "[" | trimSuffix "]" -}}
{{- if contains ":" $address }}[{{ $address }}]{{ else }}{{ $address }}{{ end }}:{{ include "cinderbox.httpPort" . }}
{{- end }}

{{/* Environment that controller and node have in common: list of the root and "controller" or "node". */}}
{{- define "cinderbox.environment" -}}
{{- $root := index . 0 -}}
{{- $part := index $root.Values (index . 1) -}}
- {name: CINDERBOX_SETTINGS, value: /etc/cinderbox/settings/settings.yaml}
- {name: CINDERBOX_ENDPOINT, value: "unix:///csi/csi.sock"}
- {name: CINDERBOX_DRIVER_NAME, value: {{ $root.Values.driverName | quote }}}
- {name: CINDERBOX_PERSISTENCE, value: '{"storage": "crd"}'}
- {name: CINDERBOX_HTTP_ADDRESS, value: "{{ include "cinderbox.hostPort" . }}"}
- {name: CINDERBOX_LOG_LEVEL, value: {{ $part.logLevel }}}
- {name: CINDERBOX_LOG_FORMAT, value: {{ $part.logFormat }}}
- {name: CINDERBOX_STOP_SECONDS, value: {{ $part.stopSeconds | quote }}}
{{- with $root.Values.tracing.endpoint }}
- {name: OTEL_EXPORTER_OTLP_ENDPOINT, value: {{ . | quote }}}
{{- end }}
{{- end }}

{{/* One sidecar: dict of root, name, args and values. It shares the controller's socket and user. */}}
{{- define "cinderbox.sidecar" -}}
- name: {{ .name }}
  image: {{ include "cinderbox.image" (list .root .name) }}
  imagePullPolicy: {{ .root.Values.global.imagePullPolicy }}
  args:
    - --csi-address=/csi/csi.sock
    - --leader-election
    - --leader-election-namespace=$(NAMESPACE)
    # They begin to wait for the lease of a dead one when the controller beside them leads, after it has waited itself.
    - --leader-election-lease-duration=8s
    - --leader-election-renew-deadline=6s
    - --leader-election-retry-period=2s
    - --timeout={{ .root.Values.sidecars.timeout }}
    - --v={{ .root.Values.sidecars.verbosity }}
    {{- range concat .args .values.extraArgs }}
    - {{ . }}
    {{- end }}
  env:
    - name: NAMESPACE
      valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
    - name: POD_NAME
      valueFrom: {fieldRef: {fieldPath: metadata.name}}
  # No probes: in the pod of a standby it waits for the socket, which is served by the active controller alone.
  securityContext: {{- include "cinderbox.unprivileged" . | nindent 4 }}
  resources: {{- toYaml .root.Values.sidecars.resources | nindent 4 }}
  volumeMounts:
    - {name: socket, mountPath: /csi}
{{- end }}
