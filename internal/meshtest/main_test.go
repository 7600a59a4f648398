package meshtest

import (
	"flag"
	"os"
	"testing"
)

// TestMain has four meshes at a time, whatever the machine has: most of what they do
// is waiting, for links that are far and nodes that are silent.
func TestMain(m *testing.M) {
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if !given {
		_ = flag.Set("test.parallel", "4")
	}
	os.Exit(m.Run())
}
