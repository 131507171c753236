{{/* Class names, in lower case and without "Driver", of drivers whose storage the host itself serves or mounts. */}}
{{- define "cinderbox.hostDrivers" -}}
loop lvmvolume nfs netappcmodenfs nexentanfs quobyte vzstorage vmstorenfs veritascnfs powerstorenfs gpfs gpfsnfs
{{- end }}

{{/* Of those, the ones whose volumes are on one host alone. */}}
{{- define "cinderbox.localDrivers" -}}
loop lvmvolume
{{- end }}

{{/* What the schema can't say. Every sentence names the value and what to do. */}}
{{- define "cinderbox.check" -}}
{{- if and .Values.settings .Values.existingSettingsSecret -}}
{{- fail "settings and existingSettingsSecret exclude each other: put the settings into the Secret" -}}
{{- end -}}
{{- $restricted := eq .Values.controller.profile "restricted" -}}
{{- $names := list -}}
{{- range $backend := .Values.backends -}}
  {{- if has $backend.name $names -}}
  {{- fail (printf "backends: two are named %s" $backend.name) -}}
  {{- end -}}
  {{- $names = append $names $backend.name -}}
  {{- if and $backend.secretOptions $backend.secretRef -}}
  {{- fail (printf "backend %s: secretOptions and secretRef exclude each other: put the options into the Secret" $backend.name) -}}
  {{- end -}}
  {{- $driver := $backend.driver | splitList "." | last | lower | trimSuffix "driver" -}}
  {{- if and $restricted (has $driver (include "cinderbox.hostDrivers" $ | splitList " ")) -}}
  {{- fail (printf "backend %s: %s works with storage that the host serves or mounts, which needs root, devices and mounts; the restricted profile has none of these. Set controller.profile=host" $backend.name $backend.driver) -}}
  {{- end -}}
  {{- if and (has $driver (include "cinderbox.localDrivers" $ | splitList " ")) (not $.Values.controller.nodeSelector) (not $.Values.controller.affinity) -}}
  {{- fail (printf "backend %s: the volumes of %s are on one host, so the controller has to run there. Name it in controller.nodeSelector, such as kubernetes.io/hostname: storage-1" $backend.name $backend.driver) -}}
  {{- end -}}
  {{- if eq $driver "loop" -}}
    {{- $directory := printf "%s/" (clean (dig "options" "loop_volumes_dir" "" $backend)) -}}
    {{- $inside := false -}}
    {{- range $.Values.hostPaths -}}
      {{- $inside = or $inside (hasPrefix (printf "%s/" .) $directory) -}}
    {{- end -}}
    {{- if not $inside -}}
    {{- fail (printf "backend %s: loop_volumes_dir has to be in a directory of hostPaths; elsewhere its volumes would go with the pod" $backend.name) -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- if and $restricted .Values.hostPaths (not .Values.existingSettingsSecret) -}}
{{- fail "hostPaths: the restricted profile mounts no directory of the host. Set controller.profile=host, or leave hostPaths empty" -}}
{{- end -}}
{{- range (lookup "apps/v1" "Deployment" .Release.Namespace "").items -}}
  {{- if and (eq (dig "metadata" "labels" "app.kubernetes.io/name" "" .) (include "cinderbox.name" $)) (eq (dig "metadata" "labels" "app.kubernetes.io/component" "" .) "controller") (ne (dig "metadata" "labels" "app.kubernetes.io/instance" "" .) $.Release.Name) -}}
  {{- fail (printf "namespace %s already has release %s of cinderbox: records and leadership are a namespace's, so every release needs one of its own" $.Release.Namespace (dig "metadata" "labels" "app.kubernetes.io/instance" "" .)) -}}
  {{- end -}}
{{- end -}}
{{- include "cinderbox.checkUnchanged" . -}}
{{- include "cinderbox.checkClasses" . -}}
{{- end }}

{{/* Kubernetes changes these fields of no class: an upgrade would fail half way. */}}
{{- define "cinderbox.checkClasses" -}}
{{- range $class := .Values.storageClasses -}}
  {{- with lookup "storage.k8s.io/v1" "StorageClass" "" $class.name -}}
    {{- $wanted := dict "provisioner" $.Values.driverName "parameters" (default dict $class.parameters) "reclaimPolicy" (default "Delete" $class.reclaimPolicy) "volumeBindingMode" (default "WaitForFirstConsumer" $class.volumeBindingMode) -}}
    {{- $there := dict "provisioner" .provisioner "parameters" (default dict .parameters) "reclaimPolicy" (default "Delete" .reclaimPolicy) "volumeBindingMode" (default "Immediate" .volumeBindingMode) -}}
    {{- range $field, $value := $wanted -}}
      {{- if ne (toJson $value) (toJson (get $there $field)) -}}
      {{- fail (printf "storageClasses: %s of StorageClass %s is %s, which Kubernetes does not change to %s. Give the new class another name; or delete this one (kubectl delete storageclass %s), which its volumes and claims outlive, and repeat the command" $field $class.name (toJson (get $there $field)) (toJson $value) $class.name) -}}
      {{- end -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- end }}

{{/* What an upgrade cannot change, compared with the DaemonSet that is there: pods use volumes by these. */}}
{{- define "cinderbox.checkUnchanged" -}}
{{- $name := printf "%s-node" (include "cinderbox.fullname" .) -}}
{{- range (lookup "apps/v1" "DaemonSet" .Release.Namespace "").items -}}
  {{- $labels := dig "metadata" "labels" dict . -}}
  {{- if and (eq (dig "app.kubernetes.io/instance" "" $labels) $.Release.Name) (eq (dig "app.kubernetes.io/component" "" $labels) "node") (hasPrefix "cinderbox-" (dig "helm.sh/chart" "" $labels)) -}}
    {{- if ne .metadata.name $name -}}
    {{- fail (printf "nameOverride, fullnameOverride: the objects of release %s are named %s, and would be named %s. They keep their names: the sealing keys and accounts go by them. Set the values back" $.Release.Name (trimSuffix "-node" .metadata.name) (trimSuffix "-node" $name)) -}}
    {{- end -}}
    {{- range .spec.template.spec.volumes -}}
      {{- if eq .name "state" -}}
        {{- $path := dig "hostPath" "path" "" . -}}
        {{- if ne (base $path) $.Values.driverName -}}
        {{- fail (printf "driverName: release %s is driver %s, as which pods use its volumes; as %s nobody could mount or delete them. Set driverName back, or install another release in a namespace of its own" $.Release.Name (base $path) $.Values.driverName) -}}
        {{- end -}}
        {{- if ne (clean (dir $path)) (clean $.Values.node.stateDir) -}}
        {{- fail (printf "node.stateDir: nodes keep their keys, and what they know of the volumes that pods use, in %s; in %s they would know nothing of them. Set it back" (dir $path) $.Values.node.stateDir) -}}
        {{- end -}}
      {{- end -}}
      {{- if and (eq .name "kubelet") (ne (clean (dig "hostPath" "path" "" .)) (clean $.Values.node.kubeletDir)) -}}
      {{- fail (printf "node.kubeletDir: volumes are mounted below %s, and %s would have none of them. Set it back; where kubelet has moved, drain all nodes and uninstall the release first" (dig "hostPath" "path" "" .) $.Values.node.kubeletDir) -}}
      {{- end -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- end }}
