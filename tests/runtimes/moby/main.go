// Resolves profiles as dockerd does, for tests of `callgate resolve`.
//
// Reads one request a line, an object of arch (Docker's name of it), kernel (a release), caps and profile, and answers
// each with one line: {"profile": ...}, or {"error": ...} with what dockerd would refuse to start a container for.
// Without a profile, the one that dockerd brings along is resolved; {"default": true} asks for that one itself.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	_ "unsafe" // for go:linkname

	"github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// The package asks the machine for these two; here they are what a request says.

//go:linkname goToNative github.com/moby/profiles/seccomp.goToNative
var goToNative map[string]string

//go:linkname getKernelVersion github.com/moby/profiles/seccomp.getKernelVersion
var getKernelVersion func() (*seccomp.KernelVersion, error)

//go:linkname parseRelease github.com/moby/profiles/seccomp.parseRelease
func parseRelease(release string) (*seccomp.KernelVersion, error)

type request struct {
	Arch    string          `json:"arch"`
	Kernel  string          `json:"kernel"`
	Caps    []string        `json:"caps"`
	Profile json.RawMessage `json:"profile"`
	Default bool            `json:"default"`
}

type answer struct {
	Profile any    `json:"profile,omitempty"`
	Error   string `json:"error,omitempty"`
}

func resolve(r request) (any, error) {
	if r.Default {
		return seccomp.DefaultProfile(), nil
	}
	goToNative[runtime.GOARCH] = r.Arch
	getKernelVersion = func() (*seccomp.KernelVersion, error) { return parseRelease(r.Kernel) }
	spec := &specs.Spec{Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{Bounding: r.Caps}}}
	if r.Profile == nil {
		return seccomp.GetDefaultProfile(spec)
	}
	return seccomp.LoadProfile(string(r.Profile), spec)
}

func main() {
	in := json.NewDecoder(bufio.NewReader(os.Stdin))
	out := json.NewEncoder(os.Stdout)
	for {
		var r request
		if err := in.Decode(&r); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		profile, err := resolve(r)
		reply := answer{Profile: profile}
		if err != nil {
			reply = answer{Error: err.Error()}
		}
		if err := out.Encode(reply); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}
