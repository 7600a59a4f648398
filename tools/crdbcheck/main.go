// Crdbcheck keeps Muster's SQL within what CockroachDB and PostgreSQL both
// speak, without needing either: it parses every migration and every SQL
// string of the packages under core with CockroachDB's own grammar (that of
// v25.2), and then looks for names that the grammar lets through although
// CockroachDB doesn't have them or means something else by them.
//
//	go -C tools/crdbcheck run . ../..
//
// SQL that is put together at run time can't be checked, so it is refused;
// constants may be concatenated. It is a module of its own because the parser
// brings 60 modules along that would move the pins of the others.
package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// exempt are folders whose SQL never reaches CockroachDB, each with the reason.
var exempt = map[string]string{
	"core/db/devdb": "starts servers and makes databases on them; knows which kind it talks to",
}

// native are files that may say what only one of the servers understands, since
// they know which one they talk to: the word that is denied elsewhere.
var native = map[string]string{
	"core/db/stale.go": "system", // AS OF SYSTEM TIME
}

func main() {
	root := "."
	if len(os.Args) > 1 {
		root = os.Args[1]
	}
	found, problems, err := checkTree(root)
	if err != nil {
		fmt.Fprintln(os.Stderr, "crdbcheck:", err)
		os.Exit(2)
	}
	for _, p := range problems {
		fmt.Println(p)
	}
	if len(problems) > 0 {
		os.Exit(1)
	}
	if found == 0 {
		fmt.Fprintln(os.Stderr, "crdbcheck: no SQL found under", filepath.Join(root, "core"))
		os.Exit(2)
	}
	fmt.Printf("crdbcheck: %d pieces of SQL are in the common language\n", found)
}

// sqlText is a piece of SQL and where it stands.
type sqlText struct {
	where string // file:line
	text  string
	why   string // why it can't be checked; empty if it can
}

// checkTree checks everything under root/core and returns how many pieces of
// SQL it found and one line per problem.
func checkTree(root string) (found int, problems []string, err error) {
	var texts []sqlText
	err = filepath.WalkDir(filepath.Join(root, "core"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		if _, ok := exempt[filepath.ToSlash(rel)]; ok || d.Name() == "testdata" {
			return fs.SkipDir
		}
		migrations, err := sqlFiles(path)
		if err != nil {
			return err
		}
		literals, err := goFiles(path)
		texts = append(append(texts, migrations...), literals...)
		return err
	})
	if err != nil {
		return 0, nil, err
	}
	for _, t := range texts {
		where := strings.TrimPrefix(t.where, filepath.Clean(root)+string(filepath.Separator))
		if t.why != "" {
			problems = append(problems, where+": "+t.why)
			continue
		}
		file, _, _ := strings.Cut(filepath.ToSlash(where), ":")
		for _, p := range check(t.text) {
			if word := native[file]; word == "" || !strings.HasPrefix(p, `"`+word+`"`) {
				problems = append(problems, where+": "+p)
			}
		}
	}
	slices.Sort(problems)
	return len(texts), problems, nil
}

// sqlFiles returns the .sql files of a folder.
func sqlFiles(dir string) ([]sqlText, error) {
	paths, err := filepath.Glob(filepath.Join(dir, "*.sql"))
	if err != nil {
		return nil, err
	}
	var texts []sqlText
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		texts = append(texts, sqlText{where: path, text: string(text)})
	}
	return texts, nil
}
