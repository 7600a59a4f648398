package notify

import (
	"bytes"
	"embed"
	"fmt"
	html "html/template"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"text/template"

	"golang.org/x/text/language"
)

// templates has a folder per kind, with a file per language that defines its
// subject, its text and, if it has a link, what the link does. Mails in HTML are
// made of the same text, so a translation is one file.
//
//go:embed templates
var templates embed.FS

// texts are the parsed templates.
type texts struct {
	languages []string // the first one is the default
	matcher   language.Matcher
	byKind    map[Kind]map[string]*template.Template
	layout    map[string]*template.Template
	html      *html.Template
}

// loadTexts parses the templates; they are part of the binary.
func loadTexts() (*texts, error) {
	t := &texts{byKind: map[Kind]map[string]*template.Template{}, layout: map[string]*template.Template{}}
	err := fs.WalkDir(templates, "templates", func(name string, d fs.DirEntry, err error) error {
		if err != nil || path.Ext(name) != ".tmpl" {
			return err
		}
		b, err := templates.ReadFile(name)
		if err != nil {
			return err
		}
		parsed, err := template.New(name).Option("missingkey=zero").Parse(string(b))
		if err != nil {
			return err
		}
		kind, lang := path.Base(path.Dir(name)), strings.TrimSuffix(path.Base(name), ".tmpl")
		if kind == "layout" {
			t.layout[lang] = parsed
			return nil
		}
		if t.byKind[kind] == nil {
			t.byKind[kind] = map[string]*template.Template{}
		}
		t.byKind[kind][lang] = parsed
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("notify: templates: %w", err)
	}
	if t.html, err = html.ParseFS(templates, "templates/layout/mail.html"); err != nil {
		return nil, fmt.Errorf("notify: templates: %w", err)
	}
	t.languages = append([]string{defaultLanguage},
		slices.DeleteFunc(slices.Sorted(maps.Keys(t.layout)), func(l string) bool { return l == defaultLanguage })...)
	tags := make([]language.Tag, len(t.languages))
	for i, l := range t.languages {
		tags[i] = language.Make(l)
	}
	t.matcher = language.NewMatcher(tags)
	return t, nil
}

const defaultLanguage = "en"

// pick returns the language that fits a BCP 47 tag, or an Accept-Language
// header, best.
func (t *texts) pick(wish string) string {
	tags, _, err := language.ParseAcceptLanguage(wish)
	if err != nil || len(tags) == 0 {
		return t.languages[0]
	}
	_, i, _ := t.matcher.Match(tags...)
	return t.languages[i]
}

// write fills the texts of a message, whose Kind, Language, Data and Link are
// set. Names are what the ids in the data stand for now; who has no name any
// more is called somebody.
func (t *texts) write(m *Message, names map[string]string) error {
	m.Language = t.pick(m.Language)
	body, layout := t.byKind[m.Kind][m.Language], t.layout[m.Language]
	if body == nil {
		return fmt.Errorf("notify: no template for %s in %s", m.Kind, m.Language)
	}
	words := map[string]any{}
	maps.Copy(words, m.Data)
	for key, fallback := range map[string]string{"user": "somebody", "group": "some_group"} {
		words[key] = names[key]
		if names[key] == "" {
			word, err := block(layout, fallback, nil)
			if err != nil {
				return err
			}
			words[key] = word
		}
	}
	var err error
	if m.Subject, err = block(body, "subject", words); err != nil {
		return err
	}
	m.Subject = strings.Join(strings.Fields(m.Subject), " ") // a header is one line
	text, err := block(body, "text", words)
	if err != nil {
		return err
	}
	paragraphs := strings.Split(text, "\n\n")
	m.Brief = paragraphs[0]
	footer := "footer"
	if kinds[m.Kind].mailOnly {
		footer = "footer_mail"
	}
	if footer, err = block(layout, footer, nil); err != nil {
		return err
	}
	action := m.Link
	if m.Link != "" && body.Lookup("action") != nil {
		if action, err = block(body, "action", words); err != nil {
			return err
		}
	}
	written := []string{paragraphs[0]}
	if m.Link != "" {
		written = append(written, m.Link)
	}
	m.Text = strings.Join(append(written, paragraphs[1:]...), "\n\n") + "\n\n-- \n" + footer + "\n"
	var b bytes.Buffer
	if err := t.html.Execute(&b, struct {
		Language, Subject, Link, Action, Footer string
		Paragraphs                              []string
	}{m.Language, m.Subject, m.Link, action, footer, paragraphs}); err != nil {
		return fmt.Errorf("notify: write mail: %w", err)
	}
	m.HTML = b.String()
	return nil
}

func block(t *template.Template, name string, words map[string]any) (string, error) {
	var b strings.Builder
	if err := t.ExecuteTemplate(&b, name, words); err != nil {
		return "", fmt.Errorf("notify: write %s: %w", name, err)
	}
	return strings.TrimSpace(b.String()), nil
}
