{{- define "switchyard.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "switchyard.selectorLabels" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "switchyard.labels" -}}
{{ include "switchyard.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end -}}

{{- define "switchyard.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "switchyard.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- /* What cannot work is refused here and not by pods that do not start. */ -}}
{{- define "switchyard.check" -}}
{{- $endpoint := .Values.topology.default | required "Expected topology.default, got none: the replicas need a store that they share" -}}
{{- if kindIs "map" $endpoint -}}
{{- $endpoint = $endpoint.endpoint -}}
{{- end -}}
{{- if hasPrefix "sqlite:" (toString $endpoint) -}}
{{- fail "Expected etcd, Postgres or MySQL for topology.default, got SQLite: the replicas need a store that they share" -}}
{{- end -}}
{{- range .Values.topology.backends -}}
{{- if hasPrefix "sqlite:" (toString .endpoint) -}}
{{- fail (printf "Expected etcd, Postgres or MySQL for the backends, got %s: the replicas need stores that they share" .endpoint) -}}
{{- end -}}
{{- end -}}
{{- if and (not .Values.tls.secretName) (not .Values.insecureAllowRemote) -}}
{{- fail "Expected tls.secretName, got none: without TLS whoever reaches the port reads and writes every key, Secrets included. For a trial say insecureAllowRemote=true" -}}
{{- end -}}
{{- end -}}
