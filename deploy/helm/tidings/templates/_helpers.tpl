{{- define "tidings.fullname" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "tidings.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "tidings.labels" -}}
{{ include "tidings.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end -}}

{{- define "tidings.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{- /* A value as a variable's text. Numbers of values files are floating, and large ones would come out as 1e+06. */ -}}
{{- define "tidings.text" -}}
{{- if and (kindIs "float64" .) (eq (float64 (int64 .)) .) -}}{{ int64 . }}{{- else -}}{{ toString . }}{{- end -}}
{{- end -}}

{{- /* A variable of `config`, or its default. Call with root, name, default. */ -}}
{{- define "tidings.variable" -}}
{{- if hasKey .root.Values.config .name -}}{{ include "tidings.text" (get .root.Values.config .name) }}{{- else -}}{{ .default }}{{- end -}}
{{- end -}}

{{- define "tidings.temporalNamespace" -}}
{{- .Values.temporal.namespace | default (printf "tidings-%s" (include "tidings.variable" (dict "root" . "name" "TIDINGS_REGION" "default" "local"))) -}}
{{- end -}}

{{- /*
How long Kubernetes waits between SIGTERM and SIGKILL, in seconds: the drain, what cli/roles.ts takes beyond it to record
results (STOP_EXTRA_MS), and a margin. Call with drainMs, and delay: seconds before the SIGTERM.
*/ -}}
{{- define "tidings.graceSeconds" -}}
{{- $stopExtraMs := 5000 -}}
{{- $marginSeconds := 5 -}}
{{- add (ceil (divf (add .drainMs $stopExtraMs) 1000)) $marginSeconds (.delay | default 0) -}}
{{- end -}}

{{- /* Task queues' partitions of each lane: TIDINGS_PARTITIONS. */ -}}
{{- define "tidings.partitions" -}}
{{- include "tidings.variable" (dict "root" . "name" "TIDINGS_PARTITIONS" "default" "4") -}}
{{- end -}}

{{- /* The lanes that a worker delivers, as JSON. */ -}}
{{- define "tidings.lanes" -}}
{{- if eq .role "dispatcher" -}}[]{{- else -}}{{ .lanes | default (list "fast" "slow" "retry") | toJson }}{{- end -}}
{{- end -}}

{{- /* Names of the workers that are enabled, as JSON. */ -}}
{{- define "tidings.workerNames" -}}
{{- $names := list -}}
{{- range $name, $worker := .Values.workers -}}
{{- if $worker.enabled -}}{{- $names = append $names $name -}}{{- end -}}
{{- end -}}
{{- $names | toJson -}}
{{- end -}}

{{- /* How long a start may take, in seconds: for a process that waits for a promotion as long as Kubernetes can count, 68 years. */ -}}
{{- define "tidings.startSeconds" -}}
{{- if .Values.waitsForPromotion -}}2147483000{{- else -}}{{ int64 .Values.probes.startSeconds }}{{- end -}}
{{- end -}}
