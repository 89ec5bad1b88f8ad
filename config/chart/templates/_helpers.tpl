{{- define "namespace" -}}
{{- .Values.namespace.name | default .Release.Namespace -}}
{{- end -}}

{{- /* The service's container, but for its ports and probes, which Knative wants otherwise. */ -}}
{{- define "service.container" -}}
name: service
image: {{ .Values.image | quote }}
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
{{- with .Values.defaultTrustPolicy }}
- --defaultTrustPolicy={{ . }}
{{- end }}
{{- range .Values.extraArgs }}
- {{ . | quote }}
{{- end }}
env:
- {name: HOME, value: /tmp}
- {name: GOMEMLIMIT, value: {{ .Values.goMemoryLimit }}}
- {name: SSL_CERT_DIR, value: "/etc/ssl/certs:/etc/ca-certificates"}
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
{{- end -}}

{{- define "pullSecrets" -}}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
{{- range . }}
- name: {{ . }}
{{- end }}
{{- end }}
{{- end -}}
