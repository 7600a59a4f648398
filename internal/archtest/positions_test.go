package archtest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// positions are the few places that may do something with a fix as a device
// reported it, beyond handing it on, each with the reason. Everything else gets
// the views of audiences, or can't look inside.
var positions = map[string]map[string]string{
	"Own": {
		"core/location/recorder.go": "a user's own track",
		"core/httpapi/location.go":  "a user's own position: where they ask from, on their own side",
		"internal/node/matching.go": "likewise, where they look around",
	},
	"NewSnapper": {
		"edge/share/subject.go": "the choke point: what comes out of it is all that others see",
		"edge/share/fleet.go":   "the same, for subjects of fleets",
	},
	"NewRaw": {
		"edge/session/location.go": "a session's fix, or a gateway's, as it comes in",
		"core/httpapi/location.go": "one that was posted, likewise",
	},
}

func TestOnlyTheChokePointLooksIntoFixes(t *testing.T) {
	const grant = module + "geo/grant"
	for _, p := range packages(t) {
		if p.rel() == "geo/grant" {
			continue
		}
		for _, name := range append(p.GoFiles, p.CgoFiles...) {
			f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, name), nil, 0)
			require.NoError(t, err)
			as := ""
			for _, i := range f.Imports {
				if i.Path.Value == `"`+grant+`"` {
					if as = "grant"; i.Name != nil {
						as = i.Name.Name
					}
				}
			}
			if as == "" {
				continue
			}
			require.NotEqual(t, ".", as, "%s/%s: positions are named in full", p.rel(), name)
			ast.Inspect(f, func(n ast.Node) bool {
				s, ok := n.(*ast.SelectorExpr)
				if !ok {
					return true
				}
				if x, ok := s.X.(*ast.Ident); ok && x.Name == as && positions[s.Sel.Name] != nil {
					require.Contains(t, positions[s.Sel.Name], p.rel()+"/"+name, "%s/%s uses grant.%s", p.rel(), name, s.Sel.Name)
				}
				return true
			})
		}
	}
}
