{{/* Names. A release `spanyard` gives spanyard-operator, spanyard-ingester, spanyard-gateway. */}}
{{- define "spanyard.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Of a component: (list $ "gateway"). */}}
{{- define "spanyard.name" -}}
{{- printf "%s-%s" (include "spanyard.fullname" (first .)) (last .) -}}
{{- end -}}

{{/* Labels by which Services and policies choose pods: they never change. */}}
{{- define "spanyard.selector" -}}
{{- $root := first . -}}
app.kubernetes.io/name: {{ default $root.Chart.Name $root.Values.nameOverride }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ last . }}
{{- end -}}

{{- define "spanyard.labels" -}}
{{- $root := first . -}}
{{ include "spanyard.selector" . }}
app.kubernetes.io/part-of: spanyard
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" }}
{{- with $root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* metadata of an object: (list $ "component" "name" ["namespace"]). Without a namespace: cluster-wide. */}}
{{- define "spanyard.metadata" -}}
name: {{ index . 2 }}
{{- if gt (len .) 3 }}
namespace: {{ index . 3 }}
{{- end }}
labels:
  {{- include "spanyard.labels" (list (first .) (index . 1)) | nindent 2 }}
{{- end -}}

{{/* An image: (list $ "gateway"). */}}
{{- define "spanyard.image" -}}
{{- $image := (first .).Values.image -}}
{{- $path := list $image.registry $image.repository (last .) | compact | join "/" -}}
{{- with index $image.digests (last .) -}}
{{- printf "%s@%s" $path . -}}
{{- else -}}
{{- printf "%s:%s" $path (default (first $).Chart.AppVersion $image.tag) -}}
{{- end -}}
{{- end -}}

{{- define "spanyard.serviceAccount" -}}
{{- $own := (index (first .).Values (last .)).serviceAccount.name -}}
{{- default (include "spanyard.name" .) $own -}}
{{- end -}}

{{/* "true" when gateway, ingester and ClickHouse are one pod. */}}
{{- define "spanyard.embedded" -}}
{{- if eq .Values.clickhouse.mode "embedded" -}}true{{- end -}}
{{- end -}}

{{/* The component behind the gateway's Service. */}}
{{- define "spanyard.gatewayComponent" -}}
{{- ternary "server" "gateway" (eq .Values.clickhouse.mode "embedded") -}}
{{- end -}}

{{/* The gateway as pods of every namespace reach it: what they ask has no base path. */}}
{{- define "spanyard.gatewayUrl" -}}
{{- $scheme := ternary "https" "http" (ne .Values.gateway.tls.secretName "") -}}
{{- $port := .Values.gateway.service.port | int -}}
{{- $usual := or (and (eq $scheme "http") (eq $port 80)) (and (eq $scheme "https") (eq $port 443)) -}}
{{- printf "%s://%s.%s%s" $scheme (include "spanyard.name" (list . "gateway")) .Release.Namespace (ternary "" (printf ":%d" $port) $usual) -}}
{{- end -}}

{{- define "spanyard.serverSettings" -}}
{{- mergeOverwrite (deepCopy .Values.ingester.settings) .Values.gateway.settings .Values.server.settings | toYaml -}}
{{- end -}}

{{- define "spanyard.basePath" -}}
{{- $settings := ternary (include "spanyard.serverSettings" . | fromYaml) .Values.gateway.settings (eq .Values.clickhouse.mode "embedded") -}}
{{- $path := trimAll "/" (toString (default "" $settings.basePath)) -}}
{{- ternary (printf "/%s" $path) "" (ne $path "") -}}
{{- end -}}

{{/* The URL of the storage; its forms are in docs/storage.md. */}}
{{- define "spanyard.storage" -}}
{{- $s := .Values.storage -}}
{{- if eq $s.type "pvc" -}}
file:///var/lib/spanyard/objects
{{- else -}}
{{- $bucket := required "storage.bucket: name the bucket, or set storage.type to pvc" $s.bucket -}}
{{- $place := list $bucket (trimAll "/" $s.prefix) | compact | join "/" -}}
{{- $query := list -}}
{{- $own := ternary $s.s3 $s.gcs (eq $s.type "s3") -}}
{{- range $key := list "region" "endpoint" "addressing" "listing" -}}
{{- with get $own $key -}}{{- $query = append $query (printf "%s=%s" $key .) -}}{{- end -}}
{{- end -}}
{{- printf "%s://%s%s" (ternary "s3" "gs" (eq $s.type "s3")) $place (ternary (printf "?%s" (join "&" $query)) "" (gt (len $query) 0)) -}}
{{- end -}}
{{- end -}}

{{/* Variables with the credentials of the bucket. */}}
{{- define "spanyard.storageEnv" -}}
- name: SPANYARD_STORAGE
  value: {{ include "spanyard.storage" . | quote }}
{{- with .Values.storage }}
{{- if and .existingSecret (eq .type "s3") }}
- name: AWS_ACCESS_KEY_ID
  valueFrom: {secretKeyRef: {name: {{ .existingSecret }}, key: AWS_ACCESS_KEY_ID}}
- name: AWS_SECRET_ACCESS_KEY
  valueFrom: {secretKeyRef: {name: {{ .existingSecret }}, key: AWS_SECRET_ACCESS_KEY}}
{{- else if and .existingSecret (eq .type "gcs") }}
- name: GOOGLE_APPLICATION_CREDENTIALS
  value: /var/run/spanyard/storage/credentials.json
{{- end }}
{{- end }}
{{- end -}}

{{- define "spanyard.storageMounts" -}}
{{- with .Values.storage }}
{{- if eq .type "pvc" }}
- {name: objects, mountPath: /var/lib/spanyard/objects, subPath: objects}
{{- else if and .existingSecret (eq .type "gcs") }}
- {name: storage-credentials, mountPath: /var/run/spanyard/storage, readOnly: true}
{{- end }}
{{- end }}
{{- end -}}

{{- define "spanyard.storageVolumes" -}}
{{- with .Values.storage }}
{{- if eq .type "pvc" }}
- name: objects
  persistentVolumeClaim: {claimName: {{ include "spanyard.objectsClaim" $ }}}
{{- else if and .existingSecret (eq .type "gcs") }}
- name: storage-credentials
  secret: {secretName: {{ .existingSecret }}, defaultMode: 0440}
{{- end }}
{{- end }}
{{- end -}}

{{- define "spanyard.objectsClaim" -}}
{{- default (include "spanyard.name" (list . "objects")) .Values.storage.pvc.existingClaim -}}
{{- end -}}

{{/* SPANYARD_CLICKHOUSE from a URL or a Secret: (list $ "reader"|"writer"). */}}
{{- define "spanyard.clickhouseEnv" -}}
{{- $c := (first .).Values.clickhouse -}}
{{- $from := dict "url" $c.url "urlSecret" $c.urlSecret -}}
{{- if and (eq (last .) "reader") (or $c.reader.url $c.reader.urlSecret.name) -}}
{{- $from = $c.reader -}}
{{- end -}}
- name: SPANYARD_CLICKHOUSE
{{- if $from.urlSecret.name }}
  valueFrom: {secretKeyRef: {name: {{ $from.urlSecret.name }}, key: {{ $from.urlSecret.key }}}}
{{- else }}
  value: {{ required "clickhouse.url or clickhouse.urlSecret.name: say where ClickHouse is, or set clickhouse.mode to embedded" $from.url | quote }}
{{- end }}
{{- end -}}

{{/* Settings as variables: camelCase to SPANYARD_SNAKE_CASE. */}}
{{- define "spanyard.settingsEnv" -}}
{{- range $name, $value := . }}
- name: SPANYARD_{{ $name | snakecase | upper }}
  {{- if kindIs "slice" $value }}
  value: {{ join "," $value | quote }}
  {{- else if and (kindIs "float64" $value) (eq (floor $value) $value) }}
  value: {{ $value | int64 | quote }}
  {{- else }}
  value: {{ $value | toString | quote }}
  {{- end }}
{{- end }}
{{- end -}}

{{/* What all pods of ours have: (list $ "component" values). */}}
{{- define "spanyard.podSpec" -}}
{{- $root := index . 0 -}}{{- $component := index . 1 -}}{{- $values := index . 2 -}}
{{- with $root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- with $values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with $values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- if ne (default "None" $values.topologySpread) "None" }}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: {{ $values.topologySpread }}
    labelSelector:
      matchLabels:
        {{- include "spanyard.selector" (list $root $component) | nindent 8 }}
{{- end }}
{{- end -}}

{{/* Restricted: nothing that Pod Security's strictest level refuses. */}}
{{- define "spanyard.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{- define "spanyard.podMetadata" -}}
{{- $root := index . 0 -}}{{- $values := index . 2 -}}
labels:
  {{- include "spanyard.labels" (list $root (index . 1)) | nindent 2 }}
  {{- with $values.podLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with $values.podAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Health over HTTP: (list readiness-period "scheme"). A slow start is no reason for a restart. */}}
{{- define "spanyard.probes" -}}
startupProbe:
  httpGet: {path: /healthz, port: http{{ if eq . "https" }}, scheme: HTTPS{{ end }}}
  periodSeconds: 2
  failureThreshold: 60
livenessProbe:
  httpGet: {path: /healthz, port: http{{ if eq . "https" }}, scheme: HTTPS{{ end }}}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  httpGet: {path: /readyz, port: http{{ if eq . "https" }}, scheme: HTTPS{{ end }}}
  periodSeconds: 5
  timeoutSeconds: 5
  failureThreshold: 2
{{- end -}}

{{/* A ServiceAccount: (list $ "component"). */}}
{{- define "spanyard.serviceAccountObject" -}}
{{- $root := first . -}}{{- $own := (index $root.Values (last .)).serviceAccount -}}
{{- if not $own.name }}
apiVersion: v1
kind: ServiceAccount
metadata:
  {{- include "spanyard.metadata" (list $root (last .) (include "spanyard.name" .) $root.Release.Namespace) | nindent 2 }}
  {{- with $own.annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
automountServiceAccountToken: false
{{- end }}
{{- end -}}

{{- define "spanyard.pdb" -}}
{{- $root := first . -}}{{- $component := last . -}}{{- $values := index $root.Values $component -}}
{{- if and $values.podDisruptionBudget.enabled (gt (int $values.replicas) 1) }}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  {{- include "spanyard.metadata" (list $root $component (include "spanyard.name" .) $root.Release.Namespace) | nindent 2 }}
spec:
  maxUnavailable: 1
  selector:
    matchLabels:
      {{- include "spanyard.selector" . | nindent 6 }}
{{- end }}
{{- end -}}

{{/* The token that the gateway shows to the ingester; the operator makes the Secret. */}}
{{- define "spanyard.ingesterToken" -}}
valueFrom: {secretKeyRef: {name: spanyard-keys, key: ingester-token}}
{{- end -}}

{{/* What gateway and the one pod of an evaluation have in common. */}}
{{- define "spanyard.gatewayEnv" -}}
- name: SPANYARD_AUTH
  value: kubernetes
- name: SPANYARD_KUBERNETES
  value: "on"
- name: SPANYARD_NAMESPACES
  value: {{ join "," .Values.watchNamespaces | quote }}
- name: SPANYARD_SIGNING_KEY
  value: /var/run/spanyard/keys/ed25519.pem
- name: SPANYARD_LISTEN
  value: 0.0.0.0
- name: SPANYARD_PORT
  value: "8080"
{{- if .Values.gateway.tls.secretName }}
- name: SPANYARD_TLS_CERT
  value: /var/run/spanyard/tls/tls.crt
- name: SPANYARD_TLS_KEY
  value: /var/run/spanyard/tls/tls.key
{{- end }}
{{- end -}}

{{- define "spanyard.gatewayMounts" -}}
- {name: tmp, mountPath: /tmp}
- {name: keys, mountPath: /var/run/spanyard/keys, readOnly: true}
{{- if .Values.gateway.tls.secretName }}
- {name: tls, mountPath: /var/run/spanyard/tls, readOnly: true}
{{- end }}
{{- end -}}

{{- define "spanyard.gatewayVolumes" -}}
- name: tmp
  emptyDir: {sizeLimit: 2Gi}
# The operator makes this Secret at its first start; the pod waits for it.
- name: keys
  secret: {secretName: spanyard-keys, items: [{key: ed25519.pem, path: ed25519.pem}], defaultMode: 0440}
{{- with .Values.gateway.tls.secretName }}
- name: tls
  secret: {secretName: {{ . }}, defaultMode: 0440}
{{- end }}
{{- end -}}

{{/* affinity of the operator: a volume that one node may mount keeps it beside the one pod. */}}
{{- define "spanyard.affinity" -}}
{{- $root := first . -}}{{- $own := last . -}}
{{- $shared := and (eq $root.Values.storage.type "pvc") (include "spanyard.embedded" $root) (not (has "ReadWriteMany" $root.Values.storage.pvc.accessModes)) -}}
{{- if or $own $shared }}
affinity:
  {{- if $own }}
  {{- toYaml $own | nindent 2 }}
  {{- else }}
  podAffinity:
    requiredDuringSchedulingIgnoredDuringExecution:
      - topologyKey: kubernetes.io/hostname
        labelSelector:
          matchLabels:
            {{- include "spanyard.selector" (list $root "server") | nindent 12 }}
  {{- end }}
{{- end }}
{{- end -}}

{{/* A binding to a role of the same name: (list $ "component" "Role|ClusterRole" "name" ["namespace"]). */}}
{{- define "spanyard.bind" -}}
{{- $root := index . 0 -}}{{- $component := index . 1 -}}
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ if gt (len .) 4 }}RoleBinding{{ else }}ClusterRoleBinding{{ end }}
metadata:
  {{- if gt (len .) 4 }}
  {{- include "spanyard.metadata" (list $root $component (index . 3) (index . 4)) | nindent 2 }}
  {{- else }}
  {{- include "spanyard.metadata" (list $root $component (index . 3)) | nindent 2 }}
  {{- end }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: {{ index . 2 }}
  name: {{ index . 3 }}
subjects:
  - kind: ServiceAccount
    name: {{ include "spanyard.serviceAccount" (list $root $component) }}
    namespace: {{ $root.Release.Namespace }}
{{- end -}}

{{/* Rules where the operator works: a ClusterRole, or a Role in each of watchNamespaces. */}}
{{- define "spanyard.grant" -}}
{{- $root := index . 0 -}}{{- $component := index . 1 -}}{{- $rules := index . 2 -}}
{{- $name := include "spanyard.name" (list $root $component) -}}
{{- if $root.Values.watchNamespaces -}}
{{- /* Names differ from release to release, so that two may work in one namespace. */ -}}
{{- $name = printf "%s-%s" $root.Release.Namespace $name | trunc 63 | trimSuffix "-" -}}
{{- range $root.Values.watchNamespaces }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata:
  {{- include "spanyard.metadata" (list $root $component $name .) | nindent 2 }}
rules:
  {{- $rules | nindent 2 }}
---
{{ include "spanyard.bind" (list $root $component "Role" $name .) }}
{{- end }}
{{- else -}}
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata:
  {{- include "spanyard.metadata" (list $root $component $name) | nindent 2 }}
rules:
  {{- $rules | nindent 2 }}
---
{{ include "spanyard.bind" (list $root $component "ClusterRole" $name) }}
{{- end }}
{{- end -}}
