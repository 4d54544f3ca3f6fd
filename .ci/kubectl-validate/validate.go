// Package validate keeps the module of kubectl-validate in go.mod.
package validate

import _ "sigs.k8s.io/kubectl-validate/pkg/cmd"
