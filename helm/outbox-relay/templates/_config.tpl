{{- /* Helm reads every number as a float, and its toToml would write batch_rows = 1000.0: hence a writer of our own. */ -}}
{{- define "outbox-relay.tomlValue" -}}
{{- if kindIs "map" . -}}
{ {{- range $i, $key := keys . | sortAlpha }}{{ if $i }},{{ end }} {{ include "outbox-relay.tomlKey" $key }} = {{ include "outbox-relay.tomlValue" (get $ $key) }}{{ end }} }
{{- else if kindIs "slice" . -}}
[{{- range $i, $item := . }}{{ if $i }}, {{ end }}{{ include "outbox-relay.tomlValue" $item }}{{ end -}}]
{{- else if kindIs "invalid" . -}}
{{- fail "config: null is no value; leave the key out" -}}
{{- else if and (kindIs "float64" .) (eq (floor .) .) -}}
{{- printf "%d" (int64 .) -}}
{{- else -}}
{{- mustToRawJson . -}}
{{- end -}}
{{- end -}}

{{- define "outbox-relay.tomlKey" -}}
{{- if not (regexMatch "^[A-Za-z0-9_-]+([.][A-Za-z0-9_-]+)*$" .) -}}
{{- fail (printf "config: %q is no name of a setting" .) -}}
{{- end -}}
{{- . -}}
{{- end -}}

{{- /* The configuration file: `config` as it is, and the paths of the mounted secrets. */ -}}
{{- define "outbox-relay.toml" -}}
{{- $config := deepCopy .Values.config -}}
{{- if regexMatch "(?i)(password\\s*=|://[^/@]*:[^/@]*@)" (toString (dig "postgres" "dsn" "" $config)) -}}
{{- fail "config.postgres.dsn holds a password, and would be readable in a ConfigMap: use postgres.existingSecret" -}}
{{- end -}}
{{- range $property := keys $config.kafka -}}
{{- if and (regexMatch "password|passphrase|secret|key[.]pem|ssl_key|oauthbearer[.]config|jaas|private|kinit[.]cmd" $property) (not (regexMatch "[.](location|file)$" $property)) -}}
{{- fail (printf "config.kafka: %s would be readable in a ConfigMap: use kafka.existingSecret and kafka.secretKeys" $property) -}}
{{- end -}}
{{- end -}}
{{- with .Values.postgres -}}
{{- if and .existingSecret .passwordKey -}}
{{- $_ := set $config.postgres "password_file" (printf "/run/outbox-relay/postgres/%s" .passwordKey) -}}
{{- end -}}
{{- end -}}
{{- with .Values.kafka -}}
{{- if and .secretKeys (not .existingSecret) -}}
{{- fail "kafka.secretKeys needs kafka.existingSecret" -}}
{{- end -}}
{{- if .secretKeys -}}
{{- $files := default (dict) $config.kafka_files -}}
{{- range $property, $key := .secretKeys -}}
{{- $_ := set $files $property (printf "/run/outbox-relay/kafka/%s" $key) -}}
{{- end -}}
{{- $_ := set $config "kafka_files" $files -}}
{{- end -}}
{{- end -}}
{{- range $section := keys $config | sortAlpha }}
[{{ include "outbox-relay.tomlKey" $section }}]
{{- $table := get $config $section }}
{{- range $key := keys $table | sortAlpha }}
{{ include "outbox-relay.tomlKey" $key }} = {{ include "outbox-relay.tomlValue" (get $table $key) }}
{{- end }}
{{ end -}}
{{- end -}}
