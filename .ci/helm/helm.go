// Package helm keeps the module of helm in go.mod.
package helm

import _ "helm.sh/helm/v4/pkg/cmd"
