// Package tctl keeps the module of tctl in go.mod.
package tctl

import _ "go.temporal.io/server/tools/cli"
