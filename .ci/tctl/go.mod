// Builds tctl, which no package registry has: the last version whose source is in a module of Go.
module tidings/tctl

go 1.16

require go.temporal.io/server v1.15.2
