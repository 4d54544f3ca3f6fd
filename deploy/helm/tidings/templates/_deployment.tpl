{{- /*
One Deployment of Tidings processes. Call with root, component, replicas (absent: something else scales it), args, env, ports,
portName of startup and liveness (absent: no probes), grace (seconds), resources, stopDelay (seconds), token (whether it talks to the
Kubernetes API).
*/ -}}
{{- define "tidings.deployment" -}}
{{- $root := .root -}}
{{- $values := .root.Values -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ include "tidings.fullname" $root }}-{{ .component }}
  labels:
    {{- include "tidings.labels" $root | nindent 4 }}
    app.kubernetes.io/component: {{ .component }}
spec:
  {{- if hasKey . "replicas" }}
  replicas: {{ .replicas }}
  {{- end }}
  revisionHistoryLimit: 5
  progressDeadlineSeconds: {{ add (include "tidings.startSeconds" $root) 60 }}
  strategy:
    {{- if $values.waitsForPromotion }}
    # New Pods are not ready before the promotion, and what is replaced one by one waits for that.
    type: Recreate
    {{- else }}
    rollingUpdate: { maxSurge: 25%, maxUnavailable: 0 }
    {{- end }}
  selector:
    matchLabels:
      {{- include "tidings.selector" $root | nindent 6 }}
      app.kubernetes.io/component: {{ .component }}
  template:
    metadata:
      labels:
        {{- include "tidings.labels" $root | nindent 8 }}
        app.kubernetes.io/component: {{ .component }}
        {{- with $values.podLabels }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      annotations:
        # A changed setting is read by new processes only.
        tidings/config: {{ include (print $root.Template.BasePath "/configmap.yaml") $root | sha256sum }}
        {{- with $values.regions }}
        tidings/regions: {{ sha256sum . }}
        {{- end }}
        {{- if .portName }}
        prometheus.io/scrape: 'true'
        prometheus.io/port: '9464'
        {{- end }}
        {{- with $values.podAnnotations }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    spec:
      serviceAccountName: {{ include "tidings.fullname" $root }}{{ if .token }}-autoscaler{{ end }}
      automountServiceAccountToken: {{ .token | default false }}
      enableServiceLinks: false
      terminationGracePeriodSeconds: {{ .grace }}
      {{- with $values.image.pullSecrets }}
      imagePullSecrets:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $values.priorityClassName }}
      priorityClassName: {{ . }}
      {{- end }}
      securityContext:
        runAsNonRoot: true
        runAsUser: 1000
        runAsGroup: 1000
        fsGroup: 1000
        seccompProfile: { type: RuntimeDefault }
      topologySpreadConstraints:
        {{- range list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
        - maxSkew: 1
          topologyKey: {{ . }}
          whenUnsatisfiable: ScheduleAnyway
          labelSelector:
            matchLabels:
              {{- include "tidings.selector" $root | nindent 14 }}
              app.kubernetes.io/component: {{ $.component }}
          matchLabelKeys: [pod-template-hash]
        {{- end }}
      {{- with $values.nodeSelector }}
      nodeSelector:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $values.tolerations }}
      tolerations:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $values.affinity }}
      affinity:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      containers:
        - name: {{ .component }}
          image: {{ include "tidings.image" $root }}
          imagePullPolicy: {{ $values.image.pullPolicy }}
          command: [node, --max-semi-space-size=32]
          args: {{ .args | toJson }}
          envFrom:
            - configMapRef: { name: {{ include "tidings.fullname" $root }} }
          env:
            {{- range $name, $from := $values.secrets }}
            - name: {{ $name }}
              valueFrom: { secretKeyRef: { name: {{ $from.name }}, key: {{ $from.key }} } }
            {{- end }}
            {{- range $name, $value := .env }}
            - { name: {{ $name }}, value: {{ $value }} }
            {{- end }}
          {{- if .portName }}
          ports:
            {{- range $name, $port := .ports }}
            - { name: {{ $name }}, containerPort: {{ $port }} }
            {{- end }}
          startupProbe:
            httpGet: { path: /health, port: {{ .portName }} }
            periodSeconds: 5
            failureThreshold: {{ div (include "tidings.startSeconds" $root) 5 }}
          livenessProbe:
            httpGet: { path: /health, port: {{ .portName }} }
            periodSeconds: 10
            timeoutSeconds: 5
            failureThreshold: 6
          # The process's own: that of the API asks Temporal too, without which publishing goes on.
          readinessProbe:
            httpGet: { path: /readyz, port: metrics }
            periodSeconds: 5
            timeoutSeconds: 5
            failureThreshold: 2
          {{- end }}
          {{- if .stopDelay }}
          lifecycle:
            preStop: { sleep: { seconds: {{ .stopDelay }} } }
          {{- end }}
          resources:
            {{- toYaml .resources | nindent 12 }}
          securityContext:
            allowPrivilegeEscalation: false
            privileged: false
            readOnlyRootFilesystem: true
            capabilities: { drop: [ALL] }
          volumeMounts:
            - { name: tmp, mountPath: /tmp }
            {{- if $values.temporal.tls.secretName }}
            - { name: temporal-tls, mountPath: /etc/tidings/temporal-tls, readOnly: true }
            {{- end }}
            {{- if $values.regions }}
            - { name: regions, mountPath: /etc/tidings/regions, readOnly: true }
            {{- end }}
      volumes:
        - name: tmp
          emptyDir: { sizeLimit: 128Mi }
        {{- if $values.temporal.tls.secretName }}
        - name: temporal-tls
          secret: { secretName: {{ $values.temporal.tls.secretName }}, defaultMode: 0440 }
        {{- end }}
        {{- if $values.regions }}
        - name: regions
          configMap: { name: {{ include "tidings.fullname" $root }}-regions }
        {{- end }}
{{- end -}}
