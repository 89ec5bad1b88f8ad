{{- define "namespace" -}}
{{- .Values.namespace.name | default .Release.Namespace -}}
{{- end -}}

{{- /* The labels that Kubernetes and Helm recommend, but for app.kubernetes.io/name. No selector has them. */ -}}
{{- define "labels" -}}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: kyverno-notation-venafi
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end -}}

{{- /* The image's name; a digest goes before a tag. */ -}}
{{- define "image" -}}
{{- if kindIs "string" .Values.image -}}
{{- .Values.image -}}
{{- else -}}
{{- $tag := .Values.image.tag | default (ternary .Chart.AppVersion "" (empty .Values.image.digest)) -}}
{{- .Values.image.repository -}}
{{- with $tag }}:{{ . }}{{ end -}}
{{- with .Values.image.digest }}@{{ . }}{{ end -}}
{{- end -}}
{{- end -}}

{{- /* Where pods run, by the values of the service or of the certificate manager. */ -}}
{{- define "scheduling" -}}
{{- with .priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations:
{{- toYaml . | nindent 0 }}
{{- end }}
{{- with .affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .topologySpreadConstraints }}
topologySpreadConstraints:
{{- toYaml . | nindent 0 }}
{{- end }}
{{- end -}}

{{- /* How images are verified, by the service and by the auditor. */ -}}
{{- define "verifying" -}}
{{- if ne (int .Values.maxPlatforms) 32 }}
- --maxPlatforms={{ .Values.maxPlatforms }}
{{- end }}
{{- if .Values.registryMirrors }}
{{- $mirrors := list }}
{{- range $origin, $names := .Values.registryMirrors }}
{{- $mirrors = append $mirrors (printf "%s=%s" $origin (join "," $names)) }}
{{- end }}
- {{ printf "--registryMirrors=%s" (join "," $mirrors) | quote }}
{{- end }}
{{- if .Values.mirrorsResolve }}
- --mirrorsResolve
{{- end }}
{{- end -}}

{{- /* The service's container, but for its ports and probes, which Knative wants otherwise. */ -}}
{{- define "service.container" -}}
name: service
image: {{ include "image" . | quote }}
{{- with .Values.imagePullPolicy }}
imagePullPolicy: {{ . }}
{{- end }}
args:
- serve
{{- with .Values.registrySecrets }}
- --imagePullSecrets={{ join "," . }}
{{- end }}
- --pluginConfigMap=notation-plugin-config
- --pluginConfigSecret=notation-plugin-config
- --maxVerifications={{ .Values.maxVerifications }}
- --denialEvents
{{- with .Values.cloudKeychains }}
- --cloudKeychains={{ join "," . }}
{{- end }}
{{- with .Values.defaultTrustPolicy }}
- --defaultTrustPolicy={{ . }}
{{- end }}
{{- include "verifying" . }}
{{- range .Values.extraArgs }}
- {{ . | quote }}
{{- end }}
env:
- {name: HOME, value: /tmp}
- {name: GOMEMLIMIT, value: {{ .Values.goMemoryLimit }}}
- {name: SSL_CERT_DIR, value: "/etc/ssl/certs:/etc/ca-certificates"}
{{- if .Values.sharedCache.enabled }}
envFrom:
- configMapRef:
    name: kyverno-notation-venafi-shared-cache
{{- end }}
resources:
  {{- toYaml .Values.resources | nindent 2 }}
volumeMounts:
- name: tmp
  mountPath: /tmp
- name: plugin-config
  mountPath: /etc/notation-venafi-csp
  readOnly: true
- name: ca-certificates
  mountPath: /etc/ca-certificates
  readOnly: true
{{- if .Values.sharedCache.enabled }}
- name: shared-cache
  mountPath: /etc/shared-cache
  readOnly: true
{{- end }}
{{- end -}}

{{- define "service.volumes" -}}
- name: tmp
  emptyDir:
    sizeLimit: 64Mi
- name: plugin-config
  secret:
    secretName: {{ .Values.plugin.configSecret }}
    optional: true
    defaultMode: {{ if .Values.knative.enabled }}0444{{ else }}0440{{ end }}
- name: ca-certificates
  configMap:
    name: ca-certificates
    optional: true
{{- if .Values.sharedCache.enabled }}
- name: shared-cache
  secret:
    secretName: kyverno-notation-venafi-shared-cache-auth
    optional: true
    defaultMode: {{ if .Values.knative.enabled }}0444{{ else }}0440{{ end }}
{{- end }}
{{- end -}}

{{- define "pullSecrets" -}}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
{{- range . }}
- name: {{ . }}
{{- end }}
{{- end }}
{{- end -}}
