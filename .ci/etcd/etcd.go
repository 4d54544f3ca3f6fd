// Package etcd keeps the module of etcd in go.mod.
package etcd

import _ "go.etcd.io/etcd/server/v3/etcdmain"
