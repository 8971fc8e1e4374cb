// dockerd's own resolver of profiles, which `callgate resolve` is compared with. tests/runtimes/build builds it.
module callgate.dev/tests/runtimes/moby

go 1.26.0

require (
	github.com/moby/profiles/seccomp v0.3.0
	github.com/opencontainers/runtime-spec v1.3.0
)

require golang.org/x/sys v0.46.0 // indirect
