package archtest

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A line belongs to the request or session that its context is of (internal/obs).
// Who has a context and leaves it out cuts that.
func TestLinesAreLoggedWithTheirContext(t *testing.T) {
	for _, p := range packages(t) {
		if !under(p.rel(), "core") && !under(p.rel(), "edge") && !under(p.rel(), "regions") && !under(p.rel(), "internal/node") {
			continue
		}
		for _, f := range p.GoFiles {
			set := token.NewFileSet()
			file, err := parser.ParseFile(set, filepath.Join(p.Dir, f), nil, 0)
			require.NoError(t, err)
			for _, call := range withoutContext(file) {
				t.Errorf("%s/%s: a context is at hand: use %sContext", p.rel(), strings.TrimPrefix(set.Position(call.Pos()).String(), p.Dir+"/"), call.Sel.Name)
			}
		}
	}
}

// withoutContext finds calls of a logger's methods that take no context, in
// functions that have one.
func withoutContext(file *ast.File) (calls []*ast.SelectorExpr) {
	levels := []string{"Debug", "Info", "Warn", "Error"}
	var visit func(n ast.Node, has bool)
	visit = func(n ast.Node, has bool) {
		ast.Inspect(n, func(m ast.Node) bool {
			switch m := m.(type) {
			case *ast.FuncDecl:
				if m.Body != nil {
					visit(m.Body, takesContext(m.Type))
				}
				return false
			case *ast.FuncLit:
				visit(m.Body, has || takesContext(m.Type))
				return false
			case *ast.CallExpr:
				s, ok := m.Fun.(*ast.SelectorExpr)
				if ok && has && slices.Contains(levels, s.Sel.Name) && isLogger(s.X) {
					calls = append(calls, s)
				}
			}
			return true
		})
	}
	visit(file, false)
	return calls
}

func takesContext(f *ast.FuncType) bool {
	return slices.ContainsFunc(f.Params.List, func(p *ast.Field) bool {
		s, ok := p.Type.(*ast.SelectorExpr)
		return ok && fmt.Sprint(s.X) == "context" && s.Sel.Name == "Context" && len(p.Names) > 0 && p.Names[0].Name != "_"
	})
}

func isLogger(x ast.Expr) bool {
	name := ""
	switch x := x.(type) {
	case *ast.Ident:
		name = x.Name
	case *ast.SelectorExpr:
		name = x.Sel.Name
	}
	return strings.HasSuffix(strings.ToLower(name), "log") || strings.HasSuffix(strings.ToLower(name), "logger")
}

func TestWithoutContext(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "x.go", `package x
func a(ctx context.Context) { s.log.Warn("found"); func() { log.Info("found") }(); log.InfoContext(ctx, "fine") }
func b() { log.Info("fine"); go func(ctx context.Context) { log.Error("found") }(nil) }
func c(_ context.Context) { log.Info("fine"); t.Error("fine") }
`, 0)
	require.NoError(t, err)
	require.Len(t, withoutContext(file), 3)
}
