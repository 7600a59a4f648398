package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// opens matches a string that is SQL. SQL is written in capitals, so a
// sentence like "update the app" isn't taken for it; nor is "DELETE /v1/things", which
// is HTTP.
var opens = regexp.MustCompile(`^\s*(SELECT|INSERT|UPDATE|UPSERT|DELETE|WITH|VALUES|CREATE|ALTER|DROP|TRUNCATE|` +
	`SET|SHOW|LISTEN|NOTIFY|LOCK|MERGE|COPY|EXPLAIN|DO|CALL|BEGIN|SAVEPOINT)\s+[^/\s]`)

// verb matches what fmt.Sprintf would replace.
var verb = regexp.MustCompile(`%[-+# 0-9.]*[sdvqx]`)

// takesSQL maps the methods of pgx and core/db that take SQL to the position of
// that argument.
var takesSQL = map[string]int{"Exec": 1, "Query": 1, "QueryRow": 1, "Queue": 0, "Prepare": 2}

// goFiles returns the SQL in the Go files of a folder, tests left out.
func goFiles(dir string) ([]sqlText, error) {
	paths, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return nil, err
	}
	f := finder{fset: token.NewFileSet(), constants: make(map[string]ast.Expr)}
	var files []*ast.File
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(f.fset, path, nil, 0)
		if err != nil {
			return nil, err
		}
		files = append(files, file)
	}
	for _, file := range files { // constants are visible in all files of a package
		for _, decl := range file.Decls {
			if d, ok := decl.(*ast.GenDecl); ok && d.Tok == token.CONST {
				for _, spec := range d.Specs {
					f.declare(spec.(*ast.ValueSpec))
				}
			}
		}
	}
	for _, file := range files {
		ast.Inspect(file, f.visit)
	}
	return f.texts, nil
}

// finder collects the SQL of one package.
type finder struct {
	fset      *token.FileSet
	constants map[string]ast.Expr
	texts     []sqlText
	seen      []ast.Node // arguments that were looked at with their call
}

func (f *finder) declare(spec *ast.ValueSpec) {
	for i, name := range spec.Names {
		if i < len(spec.Values) {
			f.constants[name.Name] = spec.Values[i]
		}
	}
}

func (f *finder) visit(n ast.Node) bool {
	if slices.Contains(f.seen, n) {
		return false
	}
	switch n := n.(type) {
	case *ast.ImportSpec, *ast.Field: // paths and tags
		return false
	case *ast.CallExpr:
		method, ok := n.Fun.(*ast.SelectorExpr)
		if !ok {
			break
		}
		if i, ok := takesSQL[method.Sel.Name]; ok && i < len(n.Args) {
			// A constant here is SQL whatever it looks like; a variable was
			// set somewhere, where a string that looks like SQL is found.
			if text, ok := f.value(n.Args[i]); ok {
				f.add(n.Args[i], text)
				f.seen = append(f.seen, n.Args[i])
			}
		}
	case *ast.BinaryExpr:
		if n.Op != token.ADD {
			break
		}
		if text, ok := f.value(n); ok {
			if opens.MatchString(text) {
				f.add(n, text)
			}
			return false
		}
		if text, ok := f.value(leftmost(n)); ok && opens.MatchString(text) {
			f.refuse(n)
			return false
		}
	case *ast.BasicLit:
		if text, ok := f.value(n); ok && opens.MatchString(text) {
			f.add(n, text)
		}
	}
	return true
}

func (f *finder) add(n ast.Node, text string) {
	if verb.MatchString(text) {
		f.refuse(n)
		return
	}
	f.texts = append(f.texts, sqlText{where: f.where(n), text: text})
}

func (f *finder) refuse(n ast.Node) {
	f.texts = append(f.texts, sqlText{where: f.where(n), why: "SQL that is put together at run time can't be checked: use constants and $1"})
}

func (f *finder) where(n ast.Node) string {
	p := f.fset.Position(n.Pos())
	return fmt.Sprintf("%s:%d", p.Filename, p.Line)
}

// value returns the constant string that e is.
func (f *finder) value(e ast.Expr) (string, bool) {
	switch e := e.(type) {
	case *ast.BasicLit:
		if e.Kind != token.STRING {
			return "", false
		}
		s, err := strconv.Unquote(e.Value)
		return s, err == nil
	case *ast.ParenExpr:
		return f.value(e.X)
	case *ast.BinaryExpr:
		x, okX := f.value(e.X)
		y, okY := f.value(e.Y)
		return x + y, okX && okY && e.Op == token.ADD
	case *ast.Ident:
		if e.Obj != nil { // declared in this file, perhaps in this function
			spec, ok := e.Obj.Decl.(*ast.ValueSpec)
			if !ok || e.Obj.Kind != ast.Con {
				return "", false
			}
			for i, name := range spec.Names {
				if name.Name == e.Name && i < len(spec.Values) {
					return f.value(spec.Values[i])
				}
			}
			return "", false
		}
		if c, ok := f.constants[e.Name]; ok {
			return f.value(c)
		}
	}
	return "", false
}

func leftmost(e ast.Expr) ast.Expr {
	for {
		b, ok := e.(*ast.BinaryExpr)
		if !ok {
			return e
		}
		e = b.X
	}
}
