{{- define "outbox-relay.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "outbox-relay.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else if contains (include "outbox-relay.name" .) .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "outbox-relay.name" .) | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- /* A Deployment's selector can never change: these two labels only. */ -}}
{{- define "outbox-relay.selectorLabels" -}}
app.kubernetes.io/name: {{ include "outbox-relay.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "outbox-relay.labels" -}}
{{ include "outbox-relay.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end -}}

{{- define "outbox-relay.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "outbox-relay.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "outbox-relay.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end -}}
{{- end -}}

{{- define "outbox-relay.httpPort" -}}
{{- $listen := toString (dig "listen" "" .Values.config.http) -}}
{{- if or (not (regexMatch "^.+:[0-9]+$" $listen)) (regexMatch "^(127\\.|localhost:|\\[::1\\])" $listen) -}}
{{- fail (printf "config.http.listen is %q: probes and metrics need an address that is reachable from outside the pod, such as 0.0.0.0:9464" $listen) -}}
{{- end -}}
{{- regexFind "[0-9]+$" $listen -}}
{{- end -}}

{{- /* relay.drain_timeout in whole seconds, rounded up. */ -}}
{{- define "outbox-relay.drainSeconds" -}}
{{- $text := toString (dig "relay" "drain_timeout" "20s" .Values.config) -}}
{{- if not (regexMatch "^[0-9]+(us|ms|s|m|h)$" $text) -}}
{{- fail (printf "config.relay.drain_timeout is %q: write it as 20s, 1500ms or 2m" $text) -}}
{{- end -}}
{{- $number := regexFind "^[0-9]+" $text | int64 -}}
{{- if hasSuffix "us" $text -}}
{{- div (add $number 999999) 1000000 -}}
{{- else if hasSuffix "ms" $text -}}
{{- div (add $number 999) 1000 -}}
{{- else if hasSuffix "m" $text -}}
{{- mul $number 60 -}}
{{- else if hasSuffix "h" $text -}}
{{- mul $number 3600 -}}
{{- else -}}
{{- $number -}}
{{- end -}}
{{- end -}}
