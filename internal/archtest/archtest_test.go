package archtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const module = "github.com/mustermesh/muster/"

// allowed is the import table: a package under the key may import packages of
// ours under the values, and its own children and parents within the key.
// A value that ends in "." is that one package, without those below it.
// The longest key wins.
var allowed = map[string][]string{
	"geo":          {},
	"geo/index":    {"geo.", "geo/h3"},
	"geo/fence":    {"geo.", "geo/h3"},
	"geo/grant":    {"geo.", "geo/h3"},
	"internal":     {},
	"api":          {"geo."},
	"turn":         {"internal"},
	"client":       {"api", "geo."},
	"regions":      {"geo", "api", "internal"},
	"media":        {"geo", "api", "turn/cred", "internal", "regions."},
	"edge":         {"regions", "geo", "api", "turn/cred", "internal"},
	"core":         {"geo", "api", "turn/cred", "internal", "core/db", "core/jobs", "core/outbox", "core/ledger", "core/objects"},
	"core/httpapi": {"geo", "api", "turn/cred", "internal", "core"},
	"web":          {},
	"deploy":       {},
	// Where parts meet.
	"internal/heap":     {"internal/run"},
	"internal/node":     {"."},
	"internal/meshtest": {"."},
	"internal/archtest": {},
	"cmd":               {"."},
	"bench":             {"api", "client", "geo", "internal", "media", "regions"},
}

// foundations are the internal packages that everybody may use; the others
// under internal/ assemble or test and are for cmd, bench and tests only.
var foundations = []string{"internal/errs", "internal/run", "internal/obs", "internal/simnet"}

// siblings are folders whose children must not import each other, except the
// shared ones that the table names.
var siblings = []string{"core", "edge", "regions", "geo"}

// siblingException says which child may import which sibling, and why.
var siblingException = map[string]string{
	"edge/hub -> edge/room":          "the hub runs the rooms that the node owns",
	"edge/session -> edge/admit":     "a session asks how much its client may send",
	"edge/share -> edge/admit":       "how many fixes of a user are taken is limited by the same buckets",
	"edge/session -> edge/transport": "a session runs on a connection",
	"edge/transport -> edge/admit":   "connections per address are limited where they are accepted",

	"regions/cluster -> regions/consensus":  "a node's part in its region is to replicate",
	"regions/cluster -> regions/roster":     "the roster",
	"regions/steering -> regions/placement": "which region is best is decided there",
}

// forbidden lists packages that must not be in the transitive imports of a
// tree, each with the reason.
var forbidden = map[string]map[string]string{
	"client": {
		"github.com/uber/h3-go":     "it is cgo, see TestClientsNeedNoCompiler",
		"github.com/hashicorp/raft": "a client coordinates nothing",
		"github.com/jackc/pgx":      "a client has no database",
		"github.com/pion":           "media is for the app to choose",
	},
	"api": {
		"github.com/quic-go":        "frames know no sockets",
		"github.com/jackc/pgx":      "frames know no database",
		"github.com/hashicorp/raft": "frames know no consensus",
	},
	"edge": {
		module + "core":        "the edge declares what it needs of core; internal/node passes it in",
		"github.com/jackc/pgx": "nothing at the edge waits for a database by itself",
	},
	"geo": {"github.com/jackc/pgx": "geometry has no I/O", "github.com/quic-go": "geometry has no I/O"},
}

// onlyHere are imports that only some packages may have.
var onlyHere = map[string]struct {
	pkgs []string
	why  string
}{
	"github.com/cockroachdb/cockroach-go": {[]string{"core/db"}, "its ExecuteTx loses commits on PostgreSQL; core/db uses it on CockroachDB only"},
	"github.com/uber/h3-go":               {[]string{"geo/h3"}, "the only cgo package"},
	"github.com/twmb/franz-go":            {[]string{"core/outbox/kafka"}, "Kafka is one sink among others"},
	module + "geo/h3":                     {[]string{"geo/index", "geo/fence", "geo/grant"}, "cgo stays behind what these decide; geo/index has covers and cells for the rest"},
}

type pkg struct {
	ImportPath, Dir, Name string
	GoFiles, CgoFiles     []string
	Imports, Deps         []string
	Standard              bool
}

func (p pkg) rel() string { return strings.TrimPrefix(p.ImportPath, module) }

func packages(t *testing.T) []pkg { return list(t, "./...") }

func list(t *testing.T, args ...string) []pkg {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list", "-json=ImportPath,Dir,Name,GoFiles,CgoFiles,Imports,Deps,Standard"}, args...)...)
	cmd.Dir = filepath.Join("..", "..")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.NoError(t, err, stderr.String())
	var ps []pkg
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		err := d.Decode(&p)
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		ps = append(ps, p)
	}
	require.NotEmpty(t, ps)
	return ps
}

// rule returns the longest key of the table that holds pkg.
func rule(rel string) (string, bool) {
	best, found := "", false
	for key := range allowed {
		if under(rel, key) && len(key) >= len(best) {
			best, found = key, true
		}
	}
	return best, found
}

func under(rel, tree string) bool {
	if one, ok := strings.CutSuffix(tree, "."); ok {
		return one == "" || rel == one
	}
	return rel == tree || strings.HasPrefix(rel, tree+"/")
}

func TestImportsGoDownOnly(t *testing.T) {
	for _, p := range packages(t) {
		key, ok := rule(p.rel())
		if !ok {
			t.Errorf("%s is not in the import table: add a row to allowed, and to the design", p.rel())
			continue
		}
		for _, imp := range p.Imports {
			rel, ours := strings.CutPrefix(imp, module)
			if !ours {
				continue
			}
			assembles := slices.Contains(allowed[key], ".")
			switch {
			case under(rel, "internal") && !slices.Contains(foundations, rel) && !assembles && key != "bench":
				t.Errorf("%s imports %s: only cmd, bench and tests assemble nodes", p.rel(), rel)
			case under(rel, key):
				// within its own tree: siblings are checked below
			case slices.ContainsFunc(allowed[key], func(a string) bool { return under(rel, a) }):
			default:
				t.Errorf("%s imports %s: not in the import table (%s may import %v)", p.rel(), rel, key, allowed[key])
			}
		}
	}
}

func TestSiblingsDoNotImportEachOther(t *testing.T) {
	child := func(rel, parent string) string {
		rest, ok := strings.CutPrefix(rel, parent+"/")
		if !ok {
			return ""
		}
		first, _, _ := strings.Cut(rest, "/")
		return parent + "/" + first
	}
	for _, p := range packages(t) {
		for _, parent := range siblings {
			me := child(p.rel(), parent)
			if me == "" || me == "core/httpapi" {
				continue
			}
			for _, imp := range p.Imports {
				other := child(strings.TrimPrefix(imp, module), parent)
				if other == "" || other == me {
					continue
				}
				if key, _ := rule(p.rel()); slices.Contains(allowed[key], other) {
					continue
				}
				if _, ok := siblingException[me+" -> "+other]; !ok {
					t.Errorf("%s imports %s: siblings declare what they need and are joined in internal/node", p.rel(), other)
				}
			}
		}
	}
}

func TestForbiddenDependencies(t *testing.T) {
	for _, p := range packages(t) {
		for tree, bad := range forbidden {
			if !under(p.rel(), tree) {
				continue
			}
			for _, dep := range p.Deps {
				for b, why := range bad {
					if dep == b || strings.HasPrefix(dep, b+"/") {
						t.Errorf("%s depends on %s: %s", p.rel(), dep, why)
					}
				}
			}
		}
		for b, only := range onlyHere {
			for _, imp := range p.Imports {
				if (imp == b || strings.HasPrefix(imp, b+"/")) && !slices.Contains(only.pkgs, p.rel()) {
					t.Errorf("%s imports %s, which only %v may: %s", p.rel(), imp, only.pkgs, only.why)
				}
			}
		}
	}
}

// The SDK and the frames build without a C compiler: nothing but Go's own
// packages, which have a pure form, uses cgo.
func TestClientsNeedNoCompiler(t *testing.T) {
	for _, tree := range []string{"./client/...", "./api/..."} {
		for _, p := range list(t, "-deps", tree) {
			if !p.Standard && len(p.CgoFiles) > 0 {
				t.Errorf("%s depends on %s, which is cgo", tree, p.ImportPath)
			}
		}
	}
}

// Every package has a doc comment that is more than its name, and generated
// packages have one beside them.
func TestEveryPackageHasADocComment(t *testing.T) {
	for _, p := range packages(t) {
		if len(p.GoFiles)+len(p.CgoFiles) == 0 {
			continue // tests only
		}
		doc := ""
		for _, f := range append(p.GoFiles, p.CgoFiles...) {
			file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, f), nil, parser.PackageClauseOnly|parser.ParseComments)
			require.NoError(t, err)
			if strings.Contains(f, ".pb.go") || file.Doc == nil {
				continue
			}
			require.Empty(t, doc, "%s has two package comments", p.rel())
			doc = file.Doc.Text()
		}
		prefix := "Package " + p.Name
		if p.Name == "main" {
			prefix = ""
		}
		if len(doc) < 60 || !strings.HasPrefix(doc, prefix) {
			t.Errorf("%s: no package comment that says what it is for", p.rel())
		}
	}
}

// A source file of more than 700 lines has a second idea in it.
func TestFilesStaySmall(t *testing.T) {
	const most = 700
	for _, p := range packages(t) {
		for _, f := range append(p.GoFiles, p.CgoFiles...) {
			if strings.Contains(f, ".pb.go") {
				continue
			}
			n := lines(t, filepath.Join(p.Dir, f))
			if n > most {
				t.Errorf("%s/%s has %d lines: is there a second idea in it?", p.rel(), f, n)
			}
		}
	}
}

func lines(t *testing.T, path string) int {
	t.Helper()
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	return bytes.Count(b, []byte("\n"))
}
