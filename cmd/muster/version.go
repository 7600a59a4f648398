package main

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

// VersionCmd prints what this binary is.
type VersionCmd struct{}

// Run prints the module version (or the commit it was built from) and the Go
// version.
func (VersionCmd) Run() error {
	fmt.Println("muster", version(), runtime.Version(), runtime.GOOS+"/"+runtime.GOARCH)
	return nil
}

func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	v := info.Main.Version
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && (v == "" || v == "(devel)") {
			return s.Value
		}
	}
	return v
}
