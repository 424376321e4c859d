{{/* Labels of every object; call with (dict "root" $ "component" "operator"), component may be empty. */}}
{{- define "zerotide.labels" -}}
{{ include "zerotide.selector" . }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
app.kubernetes.io/part-of: zerotide
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Labels that never change between versions, fit for selectors. */}}
{{- define "zerotide.selector" -}}
app.kubernetes.io/name: zerotide
{{- with .component }}
app.kubernetes.io/component: {{ . }}
{{- end }}
{{- end }}

{{/* The reference of the one image of our processes. */}}
{{- define "zerotide.image" -}}
{{- with .Values.images.zerotide -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- end -}}
{{- end -}}
{{- end }}

{{/* What the restricted Pod Security Standard asks of a pod. */}}
{{- define "zerotide.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{/* What the restricted Pod Security Standard asks of a container, and a read-only root. */}}
{{- define "zerotide.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{/* Where pods may run; call with (dict "root" $ "component" … "values" .Values.operator). */}}
{{- define "zerotide.scheduling" -}}
{{- with .root.Values.images.pullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
topologySpreadConstraints:
  {{- range $key := list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
  - maxSkew: 1
    topologyKey: {{ $key }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "zerotide.selector" $ | nindent 8 }}
  {{- end }}
{{- end }}

{{/* Who a process is, and how it logs; call with (dict "values" .Values.operator). */}}
{{- define "zerotide.env" -}}
- name: POD_NAME
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
- name: POD_NAMESPACE
  valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
- name: POD_IP
  valueFrom: {fieldRef: {fieldPath: status.podIP}}
- name: ZEROTIDE_LOG_FORMAT
  value: {{ .values.logFormat }}
{{- with .values.logLevel }}
- name: ZEROTIDE_LOG_LEVEL
  value: {{ . }}
{{- end }}
{{- with .values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Alive, ready and started, all by the admin port. */}}
{{- define "zerotide.probes" -}}
startupProbe:
  httpGet: {path: /healthz, port: admin}
  periodSeconds: 1
  timeoutSeconds: 3
  failureThreshold: 120
readinessProbe:
  httpGet: {path: /readyz, port: admin}
  periodSeconds: 2
  timeoutSeconds: 3
  failureThreshold: 2
livenessProbe:
  httpGet: {path: /healthz, port: admin}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 3
{{- end }}

{{/* Every image pattern that an endpoint may name: the chart's runtimes and policy.images, as a JSON list. */}}
{{- define "zerotide.policyImages" -}}
{{- concat (values .Values.images.runtimes | sortAlpha) .Values.policy.images | uniq | toJson -}}
{{- end }}

{{/* The gateway's name; whole where endpoints are second names of it, so that `helm test` tells a wrong clusterDomain. */}}
{{- define "zerotide.gatewayHost" -}}
zerotide-gateway.{{ .Release.Namespace }}.svc
{{- if eq .Values.service.type "ExternalName" }}.{{ .Values.clusterDomain }}{{ end }}
{{- end }}

{{/* Head of the objects of the uninstall hook; open-ended, so that a weight can follow. */}}
{{- define "zerotide.uninstallMeta" -}}
name: zerotide-uninstall
labels:
  {{- include "zerotide.labels" (dict "root" . "component" "uninstall") | nindent 2 }}
annotations:
  helm.sh/hook: pre-delete
  helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
{{- end }}
